use serde_json::Value;

/// The longest line, but for what cannot be broken.
const WIDTH: usize = 150;

/// JSON, with as much on each line as fits.
pub(super) fn brief(value: &Value) -> String {
    at(value, 0)
}

fn at(value: &Value, indent: usize) -> String {
    let whole = value.to_string();
    let inner = indent + 2;
    let parts: Vec<String> = match value {
        _ if indent + whole.len() <= WIDTH => return whole,
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| format!("{}: {}", Value::from(name.as_str()), at(value, inner))).collect()
        }
        Value::Array(values) => values.iter().map(|value| at(value, inner)).collect(),
        _ => return whole,
    };
    let (open, close) = if value.is_array() { ('[', ']') } else { ('{', '}') };
    let lines: Vec<_> = parts.into_iter().map(|part| format!("{:inner$}{part}", "")).collect();
    format!("{open}\n{}\n{:indent$}{close}", lines.join(",\n"), "")
}
