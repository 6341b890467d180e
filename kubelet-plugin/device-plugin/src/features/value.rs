/// The most bytes that a label's value can have.
const BYTES: usize = 63;

/// A text as the value of a label: words joined by `-`, without what labels cannot have. It begins and ends with a letter
/// or digit, without which the API server takes no label of a node at all.
pub(super) fn value(text: &str) -> String {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ');
    let allowed: String = text.chars().filter(allowed).collect();
    let joined = allowed.split_whitespace().collect::<Vec<_>>().join("-");
    within(&joined).to_owned()
}

/// A value that is put together of others, cut to what is allowed.
pub(super) fn within(text: &str) -> &str {
    let end = |c: char| !c.is_ascii_alphanumeric();
    // All of it is ASCII.
    text.trim_start_matches(end).get(..BYTES).unwrap_or(text.trim_start_matches(end)).trim_end_matches(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first ones are those of NVIDIA's own tests.
    #[test]
    fn a_value_is_what_a_label_can_have() {
        for (text, expected) in [
            ("a space separated string", "a-space-separated-string"),
            ("some(thing)else", "somethingelse"),
            ("some ( thing )else", "some-thing-else"),
            ("NVIDIA-TITAN-X-(Pascal)", "NVIDIA-TITAN-X-Pascal"),
            (" input  with multiple   spaces   ", "input-with-multiple-spaces"),
            ("some [ / thing / ]else", "some-thing-else"),
            ("some-thing.else_new", "some-thing.else_new"),
            ("", ""),
            ("To Be Filled By O.E.M.", "To-Be-Filled-By-O.E.M"),
            ("(-) é", ""),
        ] {
            assert_eq!(value(text), expected);
        }
        let long = "x".repeat(62) + "-yyy";
        assert_eq!(value(&long), "x".repeat(62));
    }
}
