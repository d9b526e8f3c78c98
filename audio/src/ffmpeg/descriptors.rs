//! Detection of a shortage of file descriptors.

use std::io;

use rustix::io::Errno;

/// Whether the process (EMFILE) or the machine (ENFILE) has no file descriptor left.
pub fn is_exhausted(error: &io::Error) -> bool {
    let codes = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    match error.raw_os_error() {
        Some(code) => codes.contains(&code),
        // tempfile wraps the system's error together with the path, and exposes neither its code nor its source.
        None => {
            let text = error.to_string();
            codes.iter().any(|code| text.contains(&format!("(os error {code})")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptor_shortage_is_recognised_in_wrapped_errors() {
        let system = || io::Error::from_raw_os_error(Errno::MFILE.raw_os_error());
        assert!(is_exhausted(&system()));
        assert!(is_exhausted(&io::Error::other(format!("{} at path \"/x\"", system()))));
        assert!(!is_exhausted(&io::Error::from_raw_os_error(Errno::IO.raw_os_error())));
        assert!(!is_exhausted(&io::Error::other("nothing of the kind")));
    }
}
