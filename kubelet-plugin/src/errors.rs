//! Errors in words.

/// The error with its causes, each once: many errors quote their cause themselves.
pub fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn every_cause_is_told_once() {
        let quoting = anyhow!("no file").context("records: no file");
        for (error, expected) in [
            (anyhow!("no file"), "no file"),
            (quoting, "records: no file"),
            (anyhow!("no file").context("--state-dir"), "--state-dir: no file"),
        ] {
            assert_eq!(told(&error), expected);
        }
    }
}
