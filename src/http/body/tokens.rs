//! Limits what a JSON reader has to keep in one piece. A string value is read in parts, but the name of a member and a
//! number are not, however long they are.

use std::io::{self, Cursor, Read};

use memchr::memchr2;

/// The most bytes of a member's name, or of a number, as written.
pub const MAX_TOKEN: usize = 1024;

/// The deepest nesting that is tracked, deeper than our readers go.
const MAX_DEPTH: usize = 256;

const MARK: &[u8] = b"\xef\xbb\xbf";

/// A name or a number has more than [`MAX_TOKEN`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name or a number in the JSON has more than 1 KiB")]
pub struct TooLong;

/// Skips a byte order mark at the beginning, as RFC 8259 allows.
///
/// # Errors
/// Errors of the source.
pub fn without_mark(mut json: impl Read) -> io::Result<impl Read> {
    let mut head = Vec::with_capacity(MARK.len());
    json.by_ref().take(MARK.len() as u64).read_to_end(&mut head)?;
    if head == MARK {
        head.clear();
    }
    Ok(Cursor::new(head).chain(json))
}

/// Passes JSON on, and fails with [`TooLong`] as soon as a name or a number is too long. It checks nothing else. After
/// text that is not JSON the limits still hold in some form.
pub struct Tokens<R> {
    json: R,
    scan: Scan,
}

impl<R> Tokens<R> {
    pub fn new(json: R) -> Self {
        Self { json, scan: Scan::default() }
    }
}

impl<R: Read> Read for Tokens<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.json.read(buffer)?;
        let passed = self.scan.pass(&buffer[..count]);
        passed.map(|()| count).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// Checks a whole text.
///
/// # Errors
/// [`TooLong`]
pub fn check(text: &str) -> Result<(), TooLong> {
    Scan::default().pass(text.as_bytes())
}

/// The state of the scan.
#[derive(Clone, Copy, Default)]
enum State {
    #[default]
    Between,
    /// Inside a number or a word such as `true`.
    Word,
    Text {
        is_name: bool,
    },
    /// After a backslash.
    Escape {
        is_name: bool,
    },
}

#[derive(Default)]
struct Scan {
    state: State,
    /// The length of the name, number or word so far.
    length: usize,
    /// The enclosing containers: `true` for each that is an object.
    objects: Vec<bool>,
    name_follows: bool,
}

impl Scan {
    fn pass(&mut self, mut bytes: &[u8]) -> Result<(), TooLong> {
        while let Some(&byte) = bytes.first() {
            let used = match self.state {
                State::Text { is_name } => self.text(bytes, is_name),
                State::Escape { is_name } => {
                    self.state = State::Text { is_name };
                    self.count(is_name, 1);
                    1
                }
                State::Between | State::Word => {
                    self.structure(byte);
                    1
                }
            };
            if self.length > MAX_TOKEN {
                return Err(TooLong);
            }
            bytes = &bytes[used..];
        }
        Ok(())
    }

    /// Skips the rest of a string, as far as it has arrived, and returns its length.
    fn text(&mut self, bytes: &[u8], is_name: bool) -> usize {
        let Some(end) = memchr2(b'"', b'\\', bytes) else {
            self.count(is_name, bytes.len());
            return bytes.len();
        };
        self.count(is_name, end);
        if bytes[end] == b'"' {
            // The length is checked before the next byte resets it.
            self.state = State::Between;
        } else {
            self.count(is_name, 1);
            self.state = State::Escape { is_name };
        }
        end + 1
    }

    fn count(&mut self, is_name: bool, bytes: usize) {
        if is_name {
            self.length = self.length.saturating_add(bytes);
        }
    }

    fn structure(&mut self, byte: u8) {
        let ends =
            matches!(byte, b'"' | b'{' | b'}' | b'[' | b']' | b',' | b':') || byte.is_ascii_whitespace();
        if !ends {
            (self.state, self.length) = (State::Word, self.length + 1);
            return;
        }
        (self.state, self.length) = (State::Between, 0);
        match byte {
            b'"' => self.state = State::Text { is_name: std::mem::take(&mut self.name_follows) },
            b'{' | b'[' => {
                self.name_follows = byte == b'{';
                if self.objects.len() < MAX_DEPTH {
                    self.objects.push(byte == b'{');
                }
            }
            b'}' | b']' => {
                self.objects.pop();
                self.name_follows = false;
            }
            b',' => self.name_follows = self.objects.last().copied().unwrap_or_default(),
            b':' => self.name_follows = false,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(count: usize) -> String {
        "7".repeat(count)
    }

    #[test]
    fn names_and_numbers_are_bounded_and_strings_are_not() {
        for (json, fits) in [
            (format!("{{\"{}\":1}}", long(1024)), true),
            (format!("{{\"{}\":1}}", long(1025)), false),
            (format!("{{\"a\":1, \"{}\":1}}", long(1025)), false),
            (format!("{{\"a\":{{\"b\":[{{\"{}\":1}}]}}}}", long(1025)), false),
            (format!("{{\"a\":[1,{{}}],\"{}\":1}}", long(1025)), false),
            (format!("{{\"{}", long(1025)), false),
            (format!("{{\"a\":{}}}", long(1024)), true),
            (format!("{{\"a\":{}}}", long(1025)), false),
            (format!("[{}", long(1025)), false),
            (format!("{{\"a\":\"{}\"}}", long(100_000)), true),
            (format!("[\"{}\",\"{}\"]", long(5000), long(5000)), true),
            (format!("{{\"a\":\"\\\"{}\",\"b\":\"{}\"}}", long(5000), long(5000)), true),
            (format!("{{\"{}\":1}}", "\\\"".repeat(512)), true),
            (format!("{{\"{}\":1}}", "\\\"".repeat(513)), false),
            (format!("{{\"a\":1{}}}", " ".repeat(100_000)), true),
            ("[".repeat(100_000), true),
        ] {
            assert_eq!(check(&json).is_ok(), fits, "{json:.40}");
            for size in [1, 2, 3, 7, 1000] {
                let mut scan = Scan::default();
                let whole = json.as_bytes().chunks(size).try_for_each(|piece| scan.pass(piece));
                assert_eq!(whole.is_ok(), fits, "{json:.40} in pieces of {size}");
            }
        }
    }

    #[test]
    fn a_mark_is_left_out_at_the_beginning_alone() {
        let read = |bytes: &[u8]| {
            let mut read = Vec::new();
            without_mark(bytes).expect("bytes").read_to_end(&mut read).expect("bytes");
            read
        };
        assert_eq!(read(b"\xef\xbb\xbf{}"), b"{}");
        assert_eq!(read(b"{}\xef\xbb\xbf"), b"{}\xef\xbb\xbf");
        for short in [&b""[..], b"{", b"\xef\xbb"] {
            assert_eq!(read(short), short);
        }
    }
}
