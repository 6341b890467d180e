//! Quantities of the Kubernetes API, as far as whole numbers go.

const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [&str; 6] = ["k", "M", "G", "T", "P", "E"];

/// A whole number in the form that the API server stores, so that what is read back is what was sent.
pub fn format_quantity(value: u64) -> String {
    let (base, suffixes) = if value.is_multiple_of(1024) { (1024, BINARY) } else { (1000, DECIMAL) };
    let mut rest = value;
    let mut suffix = "";
    for next in suffixes {
        if rest == 0 || !rest.is_multiple_of(base) {
            break;
        }
        rest /= base;
        suffix = next;
    }
    format!("{rest}{suffix}")
}

/// The whole number that a quantity stands for; `None` for fractions and for what is no quantity.
pub fn parse_quantity(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, suffix) = text.split_at(digits);
    let power = |suffixes: [&str; 6]| {
        suffixes.iter().position(|known| *known == suffix).and_then(|at| u32::try_from(at + 1).ok())
    };
    let factor = match (suffix, power(BINARY), power(DECIMAL)) {
        ("", ..) => 1,
        (_, Some(power), _) => 1024_u64.checked_pow(power)?,
        (_, _, Some(power)) => 1000_u64.checked_pow(power)?,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_the_api_server_stores_it_and_read_back() {
        for (value, text) in [
            (0, "0"),
            (1, "1"),
            (1000, "1k"),
            (1024, "1Ki"),
            (1_048_576_000, "1000Mi"),
            (85_520_809_984, "81559Mi"),
            (80_000_000_001, "80000000001"),
            (u64::MAX, "18446744073709551615"),
        ] {
            assert_eq!(format_quantity(value), text);
            assert_eq!(parse_quantity(text), Some(value));
        }
    }

    #[test]
    fn what_is_no_whole_number_is_told_apart() {
        for text in ["", "Ki", "1.5Gi", "-1", "1m", "1e3", "16Ei ", "99Ei"] {
            assert_eq!(parse_quantity(text), None, "{text:?}");
        }
    }
}
