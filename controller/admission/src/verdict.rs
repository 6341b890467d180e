/// What is wrong with a field of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field, from the object's root: `spec.devices.config[2].opaque.parameters.sharing`.
    pub field: String,
    /// What it is, and what it may be.
    pub message: String,
}

/// What is made of an object: it is refused if there is an error, and whoever wrote it is shown the warnings in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Everything that is wrong with it, in the order of its fields.
    pub errors: Vec<FieldError>,
    /// What is allowed, and will not do what its author may think.
    pub warnings: Vec<String>,
}

impl Verdict {
    /// Nothing is said against it.
    pub fn good() -> Self {
        Self::default()
    }

    pub(crate) fn refuse(&mut self, field: impl Into<String>, message: impl ToString) {
        self.errors.push(FieldError { field: field.into(), message: message.to_string() });
    }

    pub(crate) fn warn(&mut self, field: impl std::fmt::Display, message: impl std::fmt::Display) {
        self.warnings.push(clipped(format!("{field}: {message}")));
    }
}

/// The API server shows at most so many characters of a warning where there are several.
fn clipped(mut text: String) -> String {
    const LIMIT: usize = 256;
    if let Some((end, _)) = text.char_indices().nth(LIMIT) {
        text.truncate(end);
    }
    text
}
