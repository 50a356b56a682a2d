//! Commands that the server runs: `archive_command` and `restore_command`.

use cdc_model::units::shell_word;

/// A word of such a command. The server hands it to `sh`, after replacing what follows each percent sign.
pub fn word(text: &str) -> String {
    shell_word(text).replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percent_sign_is_not_the_server_s() {
        assert_eq!(word("/a b/100%"), "'/a b/100%%'");
        assert_eq!(word("/plain/%f"), "'/plain/%%f'");
    }
}
