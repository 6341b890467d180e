use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;

use crate::Spec;

/// The text of a spec: one line of JSON that a YAML parser reads the same way.
///
/// Runtimes read JSON specs with a YAML parser (`ParseSpec` of the Go module), and YAML is stricter about what may stand
/// in a string as it is: some characters it refuses, and line separators such as U+2028 it turns into spaces.
pub(crate) fn to_json(spec: &Spec) -> serde_json::Result<String> {
    // Enough for most claims, so that the text is not moved as it grows.
    let mut text = Vec::with_capacity(4096);
    spec.serialize(&mut serde_json::Serializer::with_formatter(&mut text, ReadableAsYaml))?;
    String::from_utf8(text).map_err(serde::ser::Error::custom)
}

struct ReadableAsYaml;

impl Formatter for ReadableAsYaml {
    /// Escapes every character beyond printable ASCII, but for those that JSON can only write as surrogate pairs:
    /// YAML has no such pairs and takes these characters as they are.
    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(start) = rest.find(|character| ('\u{7f}'..='\u{ffff}').contains(&character)) {
            let (plain, escaped) = rest.split_at(start);
            writer.write_all(plain.as_bytes())?;
            let mut characters = escaped.chars();
            characters.next().map_or(Ok(()), |character| write!(writer, "\\u{:04x}", u32::from(character)))?;
            rest = characters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ContainerEdits, Device};

    #[test]
    fn strings_are_written_so_that_yaml_reads_them_too() {
        for (string, written) in [
            ("A=b/c", r#""A=b/c""#),
            ("A=\"\\", r#""A=\"\\""#),
            ("A=\n\t\u{1b}", r#""A=\n\t\u001b""#),
            ("A=\u{7f}", r#""A=\u007f""#),
            ("A=\u{85}x", r#""A=\u0085x""#),
            ("A=ü\u{2028}", r#""A=\u00fc\u2028""#),
            ("A=\u{feff}\u{ffff}", r#""A=\ufeff\uffff""#),
            ("A=\u{10000}é\u{1f600}", "\"A=\u{10000}\\u00e9\u{1f600}\""),
        ] {
            let edits = ContainerEdits { env: vec![string.to_owned()], ..Default::default() };
            let spec = Spec::new("a/b".parse().unwrap(), vec![Device::new("c".parse().unwrap(), edits)]);
            let text = to_json(&spec).unwrap();
            assert!(text.contains(&format!(r#""env":[{written}]"#)), "{string:?}: {text}");
            assert_eq!(serde_json::from_str::<Spec>(&text).unwrap(), spec);
        }
    }
}
