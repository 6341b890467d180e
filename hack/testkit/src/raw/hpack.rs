//! Header compression (RFC 7541), as little of it as one request and one answer need: no dynamic table.

/// The symbols of the Huffman code by length in bits. The code is canonical: within a length the codes are numbered in
/// the order of the symbols (RFC 7541, appendix B). Longer codes stand for what no header of gRPC holds.
const SYMBOLS: [(u32, &[u8]); 10] = [
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b"!\"()?"),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\0$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
];

/// Each field as a literal without index and without Huffman code.
pub(super) fn encode(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            write_number(&mut bytes, text.len());
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// The fields of a block. A name out of the static table is left empty: no field that matters here is in it.
pub(super) fn decode(mut bytes: &[u8]) -> Result<Vec<(String, String)>, String> {
    let mut fields = Vec::new();
    while let Some(first) = bytes.first() {
        match first {
            // A field out of the static table.
            0x80.. => {
                read_number(&mut bytes, 7)?;
            }
            // The size of the dynamic table.
            0x20..=0x3f => {
                read_number(&mut bytes, 5)?;
            }
            _ => {
                let prefix = if first & 0x40 != 0 { 6 } else { 4 };
                let name = match read_number(&mut bytes, prefix)? {
                    0 => read_text(&mut bytes)?,
                    _ => String::new(),
                };
                fields.push((name, read_text(&mut bytes)?));
            }
        }
    }
    Ok(fields)
}

/// A number with a prefix of seven bits.
fn write_number(bytes: &mut Vec<u8>, number: usize) {
    let low = |number: usize| u8::try_from(number & 0x7f).unwrap_or(0);
    if number < 0x7f {
        return bytes.push(low(number));
    }
    bytes.push(0x7f);
    let mut rest = number - 0x7f;
    while rest >= 0x80 {
        bytes.push(low(rest) | 0x80);
        rest >>= 7;
    }
    bytes.push(low(rest));
}

fn read_number(bytes: &mut &[u8], prefix: u32) -> Result<usize, String> {
    let mask = (1_usize << prefix) - 1;
    let number = usize::from(take(bytes, 1)?[0]) & mask;
    if number < mask {
        return Ok(number);
    }
    let (mut number, mut shift) = (mask, 0);
    loop {
        let byte = usize::from(take(bytes, 1)?[0]);
        number += (byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 || shift > 28 {
            return Ok(number);
        }
    }
}

fn read_text(bytes: &mut &[u8]) -> Result<String, String> {
    let compressed = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let length = read_number(bytes, 7)?;
    let text = take(bytes, length)?;
    if compressed { huffman(text) } else { Ok(String::from_utf8_lossy(text).into_owned()) }
}

fn take<'b>(bytes: &mut &'b [u8], number: usize) -> Result<&'b [u8], String> {
    let (taken, rest) = bytes.split_at_checked(number).ok_or("a header block that ends too early")?;
    *bytes = rest;
    Ok(taken)
}

fn huffman(bytes: &[u8]) -> Result<String, String> {
    let (mut text, mut code, mut length) = (String::new(), 0_u32, 0_u32);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| u32::from(byte >> bit & 1))) {
        (code, length) = (code << 1 | bit, length + 1);
        if let Some(symbol) = symbol(code, length) {
            text.push(char::from(symbol));
            (code, length) = (0, 0);
        }
        if length > 15 {
            return Err(format!("a symbol that is not known after {text:?}"));
        }
    }
    Ok(text)
}

fn symbol(code: u32, length: u32) -> Option<u8> {
    let (mut first, mut previous) = (0_u32, 5);
    for (bits, symbols) in SYMBOLS {
        first <<= bits - previous;
        previous = bits;
        if bits == length {
            return code.checked_sub(first).and_then(|index| symbols.get(index as usize).copied());
        }
        first += u32::try_from(symbols.len()).unwrap_or(0);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7541, appendix C.4.
    #[test]
    fn the_huffman_codes_of_the_standard() {
        let compressed = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(huffman(&compressed).unwrap(), "www.example.com");
        assert_eq!(huffman(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]).unwrap(), "no-cache");
    }

    #[test]
    fn reads_what_it_writes() {
        let long = "x".repeat(300);
        let fields = [("grpc-status", "0"), ("grpc-message", long.as_str())];
        let expected: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(decode(&encode(&fields)).unwrap(), expected);
        assert!(decode(&encode(&fields)[..20]).is_err());
    }
}
