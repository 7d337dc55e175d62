//! What can be known of a path.

use std::io;
use std::path::Path;

/// Whether something has this name, be it a link that leads nowhere.
///
/// # Errors
/// When that cannot be known, above all because a directory on the way may not be searched. "May not look" is not "is not
/// there": what follows from an absence must not follow from a missing permission.
pub(crate) fn is_there(path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
