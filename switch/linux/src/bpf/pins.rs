//! What is pinned, held by descriptors besides: a pin that somebody removes takes nothing from the kernel then, and is put back.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use aya_obj::generated::{bpf_attr, bpf_cmd};

use super::super::bpf_call::{bpf, empty, open};
use super::lock;

/// Links and maps by the path of their pin.
#[derive(Debug, Default)]
pub(super) struct Pins(Mutex<BTreeMap<PathBuf, OwnedFd>>);

impl Pins {
    /// Takes hold of what is pinned there. What can't be held is only not put back.
    pub fn hold(&self, path: PathBuf) {
        let held = attr_of(&path, None).and_then(|(name, mut attr)| {
            let fd = open(bpf_cmd::BPF_OBJ_GET, &mut attr);
            drop(name);
            fd
        });
        match held {
            Ok(fd) => drop(lock(&self.0).insert(path, fd)),
            Err(error) => tracing::debug!(path = %path.display(), %error, "what is pinned there is not held besides"),
        }
    }

    /// Lets go of it: it ends when its pin does.
    pub fn release(&self, path: &Path) {
        lock(&self.0).remove(path);
    }

    /// Lets go of all.
    pub fn release_all(&self) {
        lock(&self.0).clear();
    }

    /// Pins again what was removed; none if nothing was. `prepare` makes the folders.
    pub fn put_back(&self, prepare: impl FnOnce() -> io::Result<()>) -> Option<io::Result<()>> {
        let held = lock(&self.0);
        let is_gone = |path: &Path| fs::symlink_metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
        let gone: Vec<_> = held.iter().filter(|(path, _)| is_gone(path)).collect();
        if gone.is_empty() {
            return None;
        }
        let pinned = prepare().and_then(|()| {
            gone.into_iter().try_for_each(|(path, fd)| {
                let (name, mut attr) = attr_of(path, Some(fd))?;
                bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr)?;
                drop(name);
                Ok(())
            })
        });
        Some(pinned)
    }
}

/// What the kernel is told of a pin. The name has to outlive the call.
fn attr_of(path: &Path, fd: Option<&OwnedFd>) -> io::Result<(CString, bpf_attr)> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = empty();
    // SAFETY: a union of structs of integers: any of them may be written.
    let object = unsafe { &mut attr.__bindgen_anon_4 };
    object.pathname = name.as_ptr() as u64;
    object.bpf_fd = fd.map_or(0, |fd| fd.as_raw_fd() as u32);
    Ok((name, attr))
}
