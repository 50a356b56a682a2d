//! Secrets are taken out of what is written to a file.

use std::collections::BTreeMap;

use cdc_model::units::is_secret_setting;

/// A shorter value may stand in any text by chance; the settings that hold it are masked all the same.
const IN_TEXTS_FROM: usize = 8;

/// The secrets that were met, each with what stands in its place: equal ones stay equal, and nothing else is left of them.
#[derive(Debug, Default)]
pub(super) struct Secrets(BTreeMap<String, String>);

impl Secrets {
    /// Masks the secret settings of a connector.
    pub(crate) fn mask(&mut self, config: &mut BTreeMap<String, String>) {
        for (_, value) in config.iter_mut().filter(|(key, value)| is_secret_setting(key) && !value.is_empty()) {
            let next = format!("<secret {}>", self.0.len() + 1);
            *value = self.0.entry(value.clone()).or_insert(next).clone();
        }
    }

    /// Masks them wherever else they stand in a JSON text.
    pub(crate) fn mask_text(&self, json: String) -> String {
        let mut long: Vec<_> = self.0.iter().filter(|(secret, _)| secret.len() >= IN_TEXTS_FROM).collect();
        // One may begin with another: of the longer one nothing must be left.
        long.sort_by_key(|(secret, _)| std::cmp::Reverse(secret.len()));
        long.into_iter().fold(json, |json, (secret, mask)| {
            let quoted = serde_json::Value::String(secret.clone()).to_string();
            json.replace(&quoted[1..quoted.len() - 1], mask)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_secrets_stay_equal_and_nothing_else_is_left_of_them() {
        let config = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let mut secrets = Secrets::default();
        let mut one = config(&[("database.password", "a \"long\" one"), ("database.user", "me"), ("x.token", "short")]);
        let mut two =
            config(&[("database.password", "a \"long\" one"), ("sasl.jaas.config", "other secret"), ("y.secret", "")]);
        secrets.mask(&mut one);
        secrets.mask(&mut two);
        assert_eq!(one["database.password"], two["database.password"]);
        assert_ne!(one["database.password"], one["x.token"]);
        assert_ne!(two["sasl.jaas.config"], two["database.password"]);
        assert_eq!((one["database.user"].as_str(), two["y.secret"].as_str()), ("me", ""));
        let text = serde_json::json!({ "why": "refused: a \"long\" one, in short" }).to_string();
        let masked = secrets.mask_text(text);
        assert_eq!(masked, r#"{"why":"refused: <secret 1>, in short"}"#);
    }

    #[test]
    fn a_secret_may_end_in_a_quote_and_begin_with_another() {
        let mut secrets = Secrets::default();
        let pairs = [("a.password", "beginning"), ("b.password", "beginning and end\"")];
        let mut config = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        secrets.mask(&mut config);
        let masked = secrets.mask_text(serde_json::json!({ "why": "beginning and end\"!" }).to_string());
        assert_eq!(masked, r#"{"why":"<secret 2>!"}"#);
    }
}
