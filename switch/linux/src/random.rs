//! Numbers that nobody can guess.

use std::io;

/// 64 bits from the kernel's random source.
///
/// # Errors
/// ENOSYS before Linux 3.17.
pub fn random_u64() -> io::Result<u64> {
    let mut bytes = [0u8; 8];
    // SAFETY: the kernel writes at most as many bytes as the buffer has.
    let read = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    match read {
        // So few come whole, and a signal does not cut them short (getrandom(2)).
        8 => Ok(u64::from_ne_bytes(bytes)),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_comes_twice() {
        let numbers: std::collections::HashSet<_> = (0..100).map(|_| random_u64().unwrap()).collect();
        assert_eq!(numbers.len(), 100);
    }
}
