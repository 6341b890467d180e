//! What is wrong in a profile, said so that its author can put it right.

use std::ops::Range;

/// A mistake in a data file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: field `{field}`: value {value}: {problem}")]
pub struct ProfileError {
    /// The file.
    pub file: String,
    /// The line, counted from 1; 0 where no line of the file is at fault.
    pub line: usize,
    /// The field.
    pub field: String,
    /// What stands there.
    pub value: String,
    /// What is wrong with it, and what is allowed.
    pub problem: String,
}

impl ProfileError {
    /// A mistake at a byte range of the file's text.
    pub(super) fn at(file: &str, text: &str, span: Range<usize>, problem: impl Into<String>) -> Box<Self> {
        let start = span.start.min(text.len());
        let line_start = text[..start].rfind('\n').map_or(0, |end| end + 1);
        let line_text = text[line_start..].lines().next().unwrap_or_default();
        let line = text[..start].matches('\n').count() + 1;
        let (field, value) = match line_text.split_once('=') {
            // Several fields on one line (an inline table): the one nearest to the span.
            Some(_) if line_text.trim_start().starts_with('{') => inline(text, line_start, &span),
            Some((field, value)) => (field.trim(), value.trim()),
            None => (line_text.trim().trim_matches(['[', ']']), line_text.trim()),
        };
        let problem = problem.into().trim().replace('\n', ", ");
        Box::new(Self { file: file.to_owned(), line, field: field.to_owned(), value: value.to_owned(), problem })
    }

    /// What the parser found.
    pub(super) fn parse(file: &str, text: &str, error: &toml::de::Error) -> Box<Self> {
        Self::at(file, text, error.span().unwrap_or(0..0), error.message())
    }

    pub(super) fn unknown_profile(name: &str, allowed: &[&str]) -> Box<Self> {
        Box::new(Self {
            file: "built-in profiles".to_owned(),
            line: 0,
            field: "profile".to_owned(),
            value: format!("{name:?}"),
            problem: format!("no such profile; allowed: {}", allowed.join(", ")),
        })
    }
}

fn inline<'t>(text: &'t str, line_start: usize, span: &Range<usize>) -> (&'t str, &'t str) {
    let end = span.end.min(text.len()).max(span.start);
    let before = &text[line_start..span.start];
    let at_key = text[end..].trim_start().starts_with('=');
    let value_after = |rest: &'t str| rest.split([',', '}']).next().unwrap_or_default().trim();
    if at_key {
        let rest = text[end..].trim_start().trim_start_matches('=');
        return (text[span.start..end].trim(), value_after(rest));
    }
    let field = before.trim_end().trim_end_matches('=').rsplit(['{', ',']).next().unwrap_or_default().trim();
    (field, text[span.start..end].trim())
}
