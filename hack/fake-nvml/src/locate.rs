//! Which machine this copy of the library belongs to.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use simulated_hardware::state_file::{NAME, StateFile};

/// Overrules the place of the library: the path of a state file.
const OVERRIDE: &str = "FAKE_NVML_HARDWARE";

/// The state file of the machine that this library belongs to.
pub(crate) fn state_file() -> Option<StateFile> {
    if let Some(path) = std::env::var_os(OVERRIDE) {
        return Some(StateFile::at(path.into()));
    }
    own_path().and_then(|library| nearest(&library)).map(StateFile::at)
}

/// The state file in the nearest directory above a file.
fn nearest(library: &Path) -> Option<PathBuf> {
    library.ancestors().skip(1).map(|directory| directory.join(NAME)).find(|file| file.is_file())
}

/// What dladdr(3) answers.
#[repr(C)]
struct DlInfo {
    file_name: *const c_char,
    base: *mut c_void,
    symbol_name: *const c_char,
    symbol_address: *mut c_void,
}

unsafe extern "C" {
    fn dladdr(address: *const c_void, info: *mut DlInfo) -> c_int;
}

/// The file that this code was loaded from, with links resolved: `libnvidia-ml.so.1` may be reached through one.
fn own_path() -> Option<PathBuf> {
    let address = own_path as fn() -> Option<PathBuf> as *const c_void;
    let mut info = std::mem::MaybeUninit::<DlInfo>::uninit();
    // SAFETY: dladdr takes any address and fills the struct when it answers other than 0. The layout is that of Dl_info
    // in dlfcn.h.
    let info = unsafe {
        if dladdr(address, info.as_mut_ptr()) == 0 {
            return None;
        }
        info.assume_init()
    };
    if info.file_name.is_null() {
        return None;
    }
    // SAFETY: not null, and dladdr gives a text that lives as long as the library is loaded, which it is: it runs this.
    let name = unsafe { CStr::from_ptr(info.file_name) };
    Path::new(OsStr::from_bytes(name.to_bytes())).canonicalize().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_machine_is_it() {
        let outer = tempfile::tempdir().unwrap();
        let library = outer.path().join("inner/usr/lib/libnvidia-ml.so.1");
        std::fs::create_dir_all(library.parent().unwrap()).unwrap();
        assert_eq!(nearest(&library), None);
        for root in [outer.path().to_owned(), outer.path().join("inner")] {
            let state = root.join(NAME);
            std::fs::write(&state, "{}").unwrap();
            assert_eq!(nearest(&library), Some(state));
        }
    }

    #[test]
    fn the_library_knows_its_file() {
        // In a unit test this code is part of the test's executable.
        assert_eq!(own_path().unwrap(), std::env::current_exe().unwrap().canonicalize().unwrap());
    }
}
