use proptest::prelude::*;

use super::*;

fn entry(name: &str, path: &str) -> Entry {
    Entry::new(Architecture::X86_64, name, path)
}

/// As an image has it, with a library for newer processors.
fn image() -> Cache {
    let newer = Entry { hwcap: 1 << 62, ..entry("libz.so.1", "/usr/lib/glibc-hwcaps/x86-64-v3/libz.so.1") };
    let mut cache = Cache { entries: Vec::new(), hwcaps: vec!["x86-64-v3".into()] };
    cache.put_first([newer, entry("libz.so.1", "/usr/lib/libz.so.1"), entry("libc.so.6", "/usr/lib/libc.so.6")]);
    cache
}

/// In the format before glibc 2.2, as `ldconfig -c old` wrote it.
fn old(entries: &[Entry]) -> Vec<u8> {
    let mut strings = Vec::new();
    let mut bytes = OLD_MAGIC.to_vec();
    bytes.push(0);
    bytes.extend(u32::try_from(entries.len()).unwrap().to_ne_bytes());
    for entry in entries {
        bytes.extend(entry.flags.to_ne_bytes());
        for string in [&entry.name, &entry.path] {
            bytes.extend(u32::try_from(strings.len()).unwrap().to_ne_bytes());
            strings.extend(string.as_encoded_bytes());
            strings.push(0);
        }
    }
    bytes.extend(strings);
    bytes
}

#[test]
fn what_is_written_is_read() {
    for cache in [Cache::default(), image()] {
        let bytes = cache.to_bytes().unwrap();
        assert_eq!(Cache::parse(&bytes), Ok(cache));
    }
}

#[test]
fn the_old_format_and_the_new_one_behind_it_are_read() {
    let entries = [entry("liba.so.1", "/lib/liba.so.1"), entry("libb.so.1", "/lib/libb.so.1")];
    assert_eq!(Cache::parse(&old(&entries)).unwrap().entries(), entries);

    // As `ldconfig -c compat` writes them: the new header comes between the old entries and the old strings.
    let mut both = OLD_MAGIC.to_vec();
    both.push(0);
    both.extend(1_u32.to_ne_bytes());
    both.extend([0; OLD_ENTRY]);
    both.resize(both.len().next_multiple_of(NEW_ALIGNMENT), 0);
    both.extend(image().to_bytes().unwrap());
    assert_eq!(Cache::parse(&both), Ok(image()));
}

#[test]
fn ours_are_found_first_and_nothing_is_lost() {
    let mut cache = image();
    let ours = [entry("libcuda.so.1", "/usr/lib/libcuda.so.1"), entry("libz.so.1", "/opt/libz.so.1")];
    cache.put_first(ours.clone());
    let paths: Vec<_> = cache.entries().iter().map(|entry| entry.path().to_str().unwrap()).collect();
    let (first, newer) = ("/opt/libz.so.1", "/usr/lib/glibc-hwcaps/x86-64-v3/libz.so.1");
    assert_eq!(paths, [first, newer, "/usr/lib/libz.so.1", "/usr/lib/libcuda.so.1", "/usr/lib/libc.so.6"]);
    let once = cache.clone();
    cache.put_first(ours);
    assert_eq!(cache, once);
}

#[test]
fn what_is_damaged_is_refused() {
    let bytes = image().to_bytes().unwrap();
    assert_eq!(Cache::parse(b""), Err(Damaged));
    assert_eq!(Cache::parse(&bytes[1..]), Err(Damaged));
    for length in 0..bytes.len() {
        assert_eq!(Cache::parse(&bytes[..length]), Err(Damaged), "{length} of {}", bytes.len());
    }
    let other_order = [&bytes[..28], &[1], &bytes[29..]].concat();
    assert_eq!(Cache::parse(&other_order), Err(Damaged));
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(at in 0_usize..300, with in any::<[u8; 4]>(), compat in any::<bool>()) {
        let mut bytes = image().to_bytes().unwrap();
        if compat {
            bytes = old(image().entries());
        }
        let at = at % (bytes.len() - 4);
        bytes[at..at + 4].copy_from_slice(&with);
        if let Ok(cache) = Cache::parse(&bytes) {
            let again = cache.to_bytes().unwrap();
            prop_assert_eq!(Cache::parse(&again), Ok(cache));
        }
    }
}
