//! Files and directories: who can read them, and whether respot can write them.

use std::fs::{Metadata, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

use super::Finding;
use crate::paths::is_there;

/// The size of a new store, in bytes.
const SMALL: usize = 64 * 1024;

/// Others can read. A group may: that is how a service gets its key.
const OTHERS_READ: u32 = 0o004;

/// Whether files with secrets are unreadable for other users.
pub(super) fn secrets(paths: &[PathBuf]) -> Vec<Finding> {
    const NAME: &str = "secret-files";
    if paths.is_empty() {
        return vec![Finding::skipped(NAME, "no secret is read from a file")];
    }
    let mut findings = Vec::new();
    for path in paths {
        // If it is in use and cannot be read, the program has ended before.
        let Ok(metadata) = path.metadata() else { continue };
        let mode = mode(&metadata);
        findings.push(if metadata.is_file() && mode & OTHERS_READ != 0 {
            let detail = format!("{} is readable by everyone (mode {mode:04o})", path.display());
            Finding::warning(NAME, detail, format!("chmod o= {}", quoted(path)))
        } else {
            Finding::ok(NAME, format!("{} is not readable by others", path.display()))
        });
    }
    findings
}

/// The permission bits.
pub(super) fn mode(metadata: &Metadata) -> u32 {
    metadata.permissions().mode() & 0o7777
}

/// Why files cannot be created in a directory, and how to fix that; `None` if they can.
pub(super) fn unwritable(folder: &Path) -> Option<(String, String)> {
    match folder.metadata() {
        Err(error) => {
            Some((format!("directory {}: {error}", folder.display()), format!("mkdir -p {}", quoted(folder))))
        }
        Ok(metadata) if !metadata.is_dir() => {
            Some((format!("{} is not a directory", folder.display()), "use a path in an existing directory".into()))
        }
        Ok(_) => not_permitted(folder, Access::WRITE_OK | Access::EXEC_OK).or_else(|| unfillable(folder)),
    }
}

/// What a small file is refused with, for want of space or by a file system that takes none. It is removed at once.
fn unfillable(folder: &Path) -> Option<(String, String)> {
    let probe = folder.join(format!(".respot-doctor-{:016x}", fastrand::u64(..)));
    let written = OpenOptions::new().write(true).create_new(true).open(&probe).and_then(|mut file| {
        file.write_all(&[0; SMALL])?;
        file.sync_all()
    });
    drop(std::fs::remove_file(&probe));
    let error = written.err()?;
    let detail = format!("cannot write to {}: {error}", folder.display());
    Some((detail, format!("free space on the file system of {}, or use another one", quoted(folder))))
}

/// The same for an existing file that is overwritten in place.
pub(super) fn file_unwritable(path: &Path) -> Option<(String, String)> {
    not_permitted(path, Access::WRITE_OK)
}

fn not_permitted(path: &Path, access: Access) -> Option<(String, String)> {
    let error = accessat(CWD, path, access, AtFlags::EACCESS).err()?;
    let user = rustix::process::geteuid().as_raw();
    let detail = format!("user {user} cannot write to {}: {error}", path.display());
    let is_ours = path.metadata().is_ok_and(|it| it.uid() == user);
    let fix = match error {
        Errno::ROFS => format!("mount the file system of {} read-write", quoted(path)),
        _ if is_ours && access.contains(Access::EXEC_OK) => format!("chmod u+wx {}", quoted(path)),
        _ if is_ours => format!("chmod u+w {}", quoted(path)),
        // Others may need a directory as it is.
        _ if access.contains(Access::EXEC_OK) => {
            format!("use a path in a directory of user {user}, or run respot as the owner of {}", quoted(path))
        }
        _ => format!("chown {user} {}, or run respot as its owner", quoted(path)),
    };
    Some((detail, fix))
}

/// The path itself or its nearest existing ancestor.
pub(super) fn nearest(path: &Path) -> &Path {
    path.ancestors().find(|it| is_there(it).unwrap_or(true)).unwrap_or(Path::new("."))
}

/// Whether files there are lost with the container: its writable layer is an overlay file system, which is not used
/// for data otherwise.
pub(super) fn is_ephemeral(path: &Path) -> bool {
    const OVERLAY: i128 = 0x794c_7630;
    rustix::fs::statfs(path).is_ok_and(|it| i128::from(it.f_type) == OVERLAY)
}

/// A path quoted for a shell.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
