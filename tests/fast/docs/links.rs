//! Links between the documents lead somewhere, their headings included.

use std::{collections::BTreeSet, path::Path};

use super::pages::{ROOT, documents, text};

/// As the usual renderers of Markdown make it: lower case, spaces to hyphens, marks gone.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(document: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let headings = document.lines().filter(|line| {
        fenced ^= line.starts_with("```");
        !fenced && line.starts_with('#')
    });
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

fn targets(document: &str) -> Vec<String> {
    document.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target.to_owned())).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for document in documents() {
        let here = text(&document);
        let folder = Path::new(&document).parent().unwrap();
        for target in targets(&here).into_iter().filter(|t| !t.contains("://")) {
            let (file, heading) = target.split_once('#').map_or((target.as_str(), None), |(f, h)| (f, Some(h)));
            let path = Path::new(ROOT).join(folder).join(file);
            if !file.is_empty() && !path.exists() {
                broken.push(format!("{document}: {target}: there is no such file"));
                continue;
            }
            if let Some(heading) = heading {
                let there = if file.is_empty() { here.clone() } else { std::fs::read_to_string(path).unwrap() };
                if !anchors(&there).contains(heading) {
                    broken.push(format!("{document}: {target}: there is no such heading"));
                }
            }
        }
    }
    assert_eq!(broken, Vec::<String>::new());
}

/// A page that nothing links to is not found by anybody.
#[test]
fn every_page_is_linked_from_the_readme() {
    let linked: BTreeSet<String> =
        targets(&text("README.md")).into_iter().map(|t| t.split('#').next().unwrap_or_default().to_owned()).collect();
    let lost: Vec<String> = documents().into_iter().filter(|d| d.starts_with("docs/") && !linked.contains(d)).collect();
    assert_eq!(lost, Vec::<String>::new());
}
