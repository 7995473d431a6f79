//! Whether something is there: three answers, so that none can be mistaken for another.

use super::error::KernelError;

/// What a look at something gave.
#[derive(Debug)]
pub enum Presence<T> {
    /// It is there.
    Here(T),
    /// It is certain that it is not there.
    Gone,
    /// It can't be told, for want of descriptors, memory or rights: whoever asked has to leave all as it is, and ask again.
    Unknown(KernelError),
}

impl<T> Presence<T> {
    /// `is_gone` tells which errors say that it is not there.
    pub fn of(found: Result<T, KernelError>, is_gone: impl FnOnce(&KernelError) -> bool) -> Self {
        match found {
            Ok(found) => Self::Here(found),
            Err(error) if is_gone(&error) => Self::Gone,
            Err(error) => Self::Unknown(error),
        }
    }

    /// Only if it is certain that it is not there.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone)
    }

    /// For those that do nothing unless they know.
    ///
    /// # Errors
    /// It can't be told.
    pub fn known(self) -> Result<Option<T>, KernelError> {
        match self {
            Self::Here(found) => Ok(Some(found)),
            Self::Gone => Ok(None),
            Self::Unknown(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;
    use crate::netns::is_no_namespace;

    #[test]
    fn only_what_is_not_there_is_gone() {
        let look = |errno| Presence::<()>::of(Err(KernelError::new("open", errno)), is_no_namespace);
        for errno in [Errno::ENOENT, Errno::ENOTDIR, Errno::ENXIO, Errno::EINVAL] {
            assert!(look(errno).is_gone(), "{errno}");
        }
        for errno in [
            Errno::EMFILE,
            Errno::ENFILE,
            Errno::EACCES,
            Errno::EPERM,
            Errno::ENOMEM,
            Errno::EINTR,
            Errno::EIO,
            Errno::EAGAIN,
            Errno::ELOOP,
            Errno::ESTALE,
        ] {
            let found = look(errno);
            assert!(!found.is_gone(), "{errno}");
            found.known().unwrap_err();
        }
        assert!(look(Errno::ENOENT).known().unwrap().is_none());
        assert_eq!(Presence::of(Ok(1), is_no_namespace).known().unwrap(), Some(1));
    }
}
