//! `--annotations`: what is not green, where a forge shows it.

use std::{io::Write, str::FromStr};

use camino::Utf8PathBuf;

use super::output::CliError;
use crate::report::{AnnotationFormat, RunReport, annotations, write_text};
use cdc_model::units::Exit;

/// A format, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    format: AnnotationFormat,
    /// Standard output when absent.
    file: Option<Utf8PathBuf>,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Wanted, String> {
        let (format, file) = match text.split_once('=') {
            Some((format, file)) => (format, Some(file)),
            None => (text, None),
        };
        let format = match format {
            "github" => AnnotationFormat::Github,
            "gitlab" => AnnotationFormat::Gitlab,
            other => {
                return Err(format!("expected `github`, `gitlab`, `github=FILE` or `gitlab=FILE`, found `{other}`"));
            }
        };
        match file {
            Some("") => Err("expected the name of a file after `=`".to_owned()),
            file => Ok(Wanted { format, file: file.map(Utf8PathBuf::from) }),
        }
    }
}

/// The flag.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Annotations {
    /// Write what is not green as annotations: `github` (workflow commands) or `gitlab` (a code quality report), to standard output or with `=FILE` into a file; may be given twice
    #[arg(long, value_name = "FORMAT[=FILE]")]
    annotations: Vec<Wanted>,
}

impl Annotations {
    /// Refuses two texts on standard output.
    pub(super) fn beside_json(&self, json: bool) -> Result<(), CliError> {
        let printed = self.annotations.iter().filter(|wanted| wanted.file.is_none()).count() + usize::from(json);
        match printed {
            0 | 1 => Ok(()),
            _ => Err(CliError::new(Exit::Usage, "standard output takes one of --json and --annotations")
                .hint("name a file: `--annotations github=FILE`")),
        }
    }

    /// Writes them.
    pub(super) fn write(&self, report: &RunReport) -> Result<(), CliError> {
        for Wanted { format, file } in &self.annotations {
            let text = annotations(report, *format)?;
            match file {
                Some(file) => write_text(file, &text)?,
                // A reader that has gone away is no error.
                None => _ = std::io::stdout().lock().write_all(text.as_bytes()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_named_with_or_without_a_file() {
        let of = |text: &str| text.parse::<Wanted>();
        let github = |file: Option<&str>| Wanted { format: AnnotationFormat::Github, file: file.map(Into::into) };
        assert_eq!(of("github"), Ok(github(None)));
        assert_eq!(of("github=a=b"), Ok(github(Some("a=b"))));
        assert_eq!(of("gitlab=q.json").unwrap().format, AnnotationFormat::Gitlab);
        for wrong in ["", "bitbucket", "github=", "GITHUB"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
