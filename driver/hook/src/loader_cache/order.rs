use std::cmp::Ordering;
use std::os::unix::ffi::OsStrExt;

use super::Entry;

/// The order of entries in the file: names from the last to the first, and the flags of one name likewise (`compare` in
/// glibc's `elf/cache.c`).
pub(super) fn of_entries(left: &Entry, right: &Entry) -> Ordering {
    of_names(right.name.as_bytes(), left.name.as_bytes()).then(right.flags.cmp(&left.flags))
}

/// The order that the loader searches by (`_dl_cache_libcmp` in glibc's `elf/dl-cache.c`): numbers count as such, and
/// come after everything else.
fn of_names(left: &[u8], right: &[u8]) -> Ordering {
    let (mut left, mut right) = (left, right);
    loop {
        match (left.first(), right.first()) {
            (None, None) => return Ordering::Equal,
            (None, Some(b)) if !b.is_ascii_digit() => return 0.cmp(&character(*b)),
            (Some(a), None) if !a.is_ascii_digit() => return character(*a).cmp(&0),
            (Some(a), Some(b)) if a.is_ascii_digit() && b.is_ascii_digit() => {
                let (a, b);
                (a, left) = number(left);
                (b, right) = number(right);
                if a != b {
                    // glibc looks at the sign of the difference, overflow or not.
                    return a.wrapping_sub(b).cmp(&0);
                }
            }
            (Some(a), _) if a.is_ascii_digit() => return Ordering::Greater,
            (_, Some(b)) if b.is_ascii_digit() => return Ordering::Less,
            (Some(a), Some(b)) if a != b => return character(*a).cmp(&character(*b)),
            _ => (left, right) = (&left[1..], &right[1..]),
        }
    }
}

/// As C has it: with a sign on x86, without one on Arm.
fn character(byte: u8) -> std::ffi::c_char {
    std::ffi::c_char::from_ne_bytes([byte])
}

/// The number at the start, in C's `int`, and what comes after it.
fn number(text: &[u8]) -> (i32, &[u8]) {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let value =
        text[..digits].iter().fold(0_i32, |value, digit| value.wrapping_mul(10).wrapping_add(i32::from(digit - b'0')));
    (value, &text[digits..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order of `elf/cache.c` for these names, which is neither that of their bytes nor that of version numbers.
    #[test]
    fn numbers_count_as_numbers() {
        let sorted = [
            "",
            "lib",
            "liba.so",
            "liba.so.1",
            "liba.so.2",
            "liba.so.10",
            "libaa.so",
            "libb-x.so",
            "libb.so",
            "libb1.so",
            "libb10.so",
        ];
        assert!(sorted.is_sorted_by(|left, right| of_names(left.as_bytes(), right.as_bytes()) == Ordering::Less));
        for name in sorted {
            assert_eq!(of_names(name.as_bytes(), name.as_bytes()), Ordering::Equal);
        }
        assert_eq!(of_names(b"lib01.so", b"lib1.so"), Ordering::Equal);
    }
}
