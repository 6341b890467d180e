/// A text in which `*` stands for anything. It matches what it stands in, not only what it is: `A100` matches
/// `NVIDIA A100-SXM4-40GB`, as NVIDIA's device plugin has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(pub String);

impl Pattern {
    /// Whether it stands in a text.
    pub fn matches(&self, text: &str) -> bool {
        let found = |rest: Option<&'_ str>, piece: &str| rest.and_then(|rest| Some(rest.split_once(piece)?.1.len()));
        let mut left = Some(text.len());
        for piece in self.0.split('*') {
            left = found(left.map(|left| &text[text.len() - left..]), piece);
        }
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_what_it_stands_in() {
        for (pattern, text, expected) in [
            ("*", "anything", true),
            ("", "anything", true),
            ("A100", "NVIDIA A100-SXM4-40GB", true),
            ("A100*40GB", "NVIDIA A100-SXM4-40GB", true),
            ("40GB*A100", "NVIDIA A100-SXM4-40GB", false),
            ("1g.*", "1gx5gb", false),
            ("*a*a*", "a", false),
            ("*a*a*", "aa", true),
            ("é*é", "éé", true),
        ] {
            assert_eq!(Pattern(pattern.to_owned()).matches(text), expected, "{pattern} in {text}");
        }
    }
}
