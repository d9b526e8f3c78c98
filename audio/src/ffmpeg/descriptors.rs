//! File descriptors, and how their lack shows.

use std::io;

use rustix::io::Errno;

/// Whether neither this process nor the machine may open another file or socket: EMFILE or ENFILE.
pub fn is_exhausted(error: &io::Error) -> bool {
    let codes = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    match error.raw_os_error() {
        Some(code) => codes.contains(&code),
        // tempfile wraps the error of the system with the path, and gives away neither code nor source.
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
    fn the_lack_of_descriptors_is_recognised_behind_a_path_too() {
        let system = || io::Error::from_raw_os_error(Errno::MFILE.raw_os_error());
        assert!(is_exhausted(&system()));
        assert!(is_exhausted(&io::Error::other(format!("{} at path \"/x\"", system()))));
        assert!(!is_exhausted(&io::Error::from_raw_os_error(Errno::IO.raw_os_error())));
        assert!(!is_exhausted(&io::Error::other("nothing of the kind")));
    }
}
