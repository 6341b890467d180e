//! How long the API lets texts in a ResourceSlice be.

/// The API takes at most 64 bytes in a string attribute.
const ATTRIBUTE_BYTES: usize = 64;

/// The API takes at most 63 bytes in the value of a taint.
const TAINT_BYTES: usize = 63;

/// What of a text the API takes in a string attribute.
pub fn attribute_text(text: &str) -> &str {
    &text[..text.floor_char_boundary(ATTRIBUTE_BYTES)]
}

/// What of the name of an object the API takes as the value of a taint, which is what it takes as that of a label: a name may be
/// longer, but has no other characters. `None` where nothing is left.
pub fn taint_value(name: &str) -> Option<String> {
    let cut = &name[..name.floor_char_boundary(TAINT_BYTES)];
    let value = cut.trim_end_matches(|character: char| !character.is_ascii_alphanumeric());
    (!value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut() {
        assert_eq!(attribute_text("short"), "short");
        assert_eq!(attribute_text(&"\u{e4}".repeat(40)), "\u{e4}".repeat(32));
        let long = format!("{}.{}", "a".repeat(62), "b".repeat(80));
        for (name, value) in [("research", Some("research")), (&*long, Some(&long[..62])), ("-", None), ("", None)] {
            assert_eq!(taint_value(name).as_deref(), value);
        }
    }
}
