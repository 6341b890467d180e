use std::collections::BTreeMap;
use std::fs;

use crate::Root;

/// What an instance of Google's cloud is told about its TPUs, where its image writes that down.
const PATH: &str = "/etc/tpu/tpu-env";

/// The lines `KEY: 'value'` of the file. What is no such line is passed over; without a file there are none.
pub(super) fn read(root: &Root) -> BTreeMap<String, String> {
    fs::read(root.seen_by_agent(PATH)).map(|bytes| parse(&String::from_utf8_lossy(&bytes))).unwrap_or_default()
}

fn parse(text: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(':')?;
        let key = key.trim();
        let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        let value = value.trim().trim_matches(['\'', '"']).trim();
        (is_key && !value.is_empty()).then(|| (key.to_owned(), value.to_owned()))
    };
    text.lines().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_keys_and_values() {
        let text = "ACCELERATOR_TYPE: 'v5litepod-16'\nTOPOLOGY: \"4x4\"\n WORKER_ID : 3\n\
                    # a comment: x\nlower: 'x'\nEMPTY: ''\ngarbage\n\u{0}\u{1}: 7\nLAST: 'a:b'";
        let found = parse(text);
        let found: Vec<_> = found.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(
            found,
            [("ACCELERATOR_TYPE", "v5litepod-16"), ("LAST", "a:b"), ("TOPOLOGY", "4x4"), ("WORKER_ID", "3")]
        );
    }
}
