//! What can be known of a path.

use std::io;
use std::path::Path;

/// Whether something has this name, be it a link that leads nowhere.
///
/// # Errors
/// When that cannot be known: a directory on the way may not be searched, or is a link that leads nowhere, perhaps to where
/// something is to be mounted. "May not look" is not "is not there": what follows from an absence must not follow from that.
pub(crate) fn is_there(path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match dangling(path) {
            Some(link) => Err(io::Error::other(format!("{} is a link to nothing", link.display()))),
            None => Ok(false),
        },
        Err(error) => Err(error),
    }
}

/// The directory on the way that is a link to nothing, if one is.
fn dangling(path: &Path) -> Option<&Path> {
    let above = path.ancestors().skip(1).find(|it| it.symlink_metadata().is_ok())?;
    above.metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound).then_some(above)
}
