//! The exchange, name by name: the newer thing aside, the older one into its place; each move is one rename.

use super::{
    super::{
        beneath::Folder,
        copy,
        manifest::{Below, Entry, What},
        place::{Root, Scope},
        sqlite,
    },
    Run,
};
use std::{io, path::Path};

/// The exchange of one root.
pub(super) struct Swap<'a> {
    pub(super) run: &'a Run<'a>,
    pub(super) root: &'a Root,
    pub(super) base: &'a Folder,
    pub(super) aside: &'a Folder,
    pub(super) entries: Vec<&'a Entry>,
}

impl Swap<'_> {
    pub(super) fn all(&self, new: &Folder) -> io::Result<()> {
        match &self.root.scope {
            Scope::Only(name) => self.database(new, Path::new(name)),
            Scope::AllBut(_) => self.folder(new, Path::new("")),
        }
    }

    /// Exchanges one database; the files beside the newer one go with it, or they would be taken for the older's.
    fn database(&self, new: &Folder, name: &Path) -> io::Result<()> {
        let staged = new.stat_if_any(name)?.is_some();
        if !staged && !self.entries.is_empty() {
            return Ok(());
        }
        for suffix in sqlite::SIDES {
            self.put_aside(&sqlite::side(name, suffix))?;
        }
        self.put_aside(name)?;
        if staged {
            self.put_in_place(new, name)?;
        }
        Ok(())
    }

    fn put_aside(&self, path: &Path) -> io::Result<()> {
        if self.base.stat_if_any(path)?.is_none() {
            return Ok(());
        }
        self.make_aside_parents(path)?;
        self.run.steps.before("move the newer data aside");
        self.base.move_to(path, self.aside, path)
    }

    fn make_aside_parents(&self, path: &Path) -> io::Result<()> {
        let parents: Vec<&Path> = path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()).collect();
        for parent in parents.into_iter().rev() {
            if self.aside.stat_if_any(parent)?.is_none() {
                self.run.steps.before("make a folder aside");
                self.aside.make_folder(parent)?;
                wear_the_same(&self.base.folder(parent)?, &self.aside.folder(parent)?)?;
            }
        }
        Ok(())
    }

    fn put_in_place(&self, new: &Folder, path: &Path) -> io::Result<()> {
        self.run.steps.before("move the data into its place");
        new.move_to(path, self.base, path)
    }

    fn entry(&self, path: &Path) -> Option<&Entry> {
        let below = Below::new(path.into())?;
        self.entries.binary_search_by(|entry| entry.path.cmp(&below)).ok().map(|at| self.entries[at])
    }

    /// Exchanges what is in the folder `at`, but for what is excluded.
    fn folder(&self, new: &Folder, at: &Path) -> io::Result<()> {
        for (name, is_folder) in self.base.folder(at)?.names()? {
            let path = at.join(&name);
            if self.root.scope.leaves_out(&path) {
                continue;
            }
            let (entry, staged) = (self.entry(&path), new.stat_if_any(&path)?);
            if entry.is_some() && staged.is_none() {
                // In its place already.
                continue;
            }
            let stays = is_folder && self.has_excluded(&path)?;
            match entry.map(|entry| &entry.what) {
                // A folder with excluded files in it stays, and only the rest of it is exchanged.
                Some(What::Folder) if stays => self.folder(new, &path)?,
                None if stays => self.aside_around_excluded(&path)?,
                _ => self.put_aside(&path)?,
            }
        }
        for (name, is_folder) in new.folder(at)?.names()? {
            let path = at.join(&name);
            match self.base.stat_if_any(&path)? {
                Some(_) if is_folder => {
                    // Exchanged above, so its staged folder is empty. Dressed first: after a kill it counts as done.
                    if let Some(entry) = self.entry(&path) {
                        self.run.steps.before("dress a folder that stayed");
                        let folder = self.base.folder(&path)?;
                        copy::dress(&folder, &entry.dress)?;
                        folder.sync()?;
                    }
                    self.run.steps.before("remove an emptied folder");
                    new.remove_empty(&path)?;
                }
                _ => self.put_in_place(new, &path)?,
            }
        }
        Ok(())
    }

    fn has_excluded(&self, path: &Path) -> io::Result<bool> {
        if !self.root.scope.may_leave_out_inside() {
            return Ok(false);
        }
        for (name, is_folder) in self.base.folder(path)?.names()? {
            let inner = path.join(name);
            if self.root.scope.leaves_out(&inner) || (is_folder && self.has_excluded(&inner)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Moves aside what is in a folder that the snapshot doesn't have, but leaves its excluded files.
    fn aside_around_excluded(&self, at: &Path) -> io::Result<()> {
        for (name, is_folder) in self.base.folder(at)?.names()? {
            let path = at.join(&name);
            if self.root.scope.leaves_out(&path) {
                continue;
            }
            if is_folder && self.has_excluded(&path)? {
                self.aside_around_excluded(&path)?;
            } else {
                self.put_aside(&path)?;
            }
        }
        Ok(())
    }

    /// Dresses the root itself, whose time the moves have changed.
    pub(super) fn dress_base(&self) -> io::Result<()> {
        match (&self.root.scope, self.entry(Path::new(""))) {
            (Scope::AllBut(_), Some(entry)) => copy::dress(self.base, &entry.dress),
            _ => Ok(()),
        }
    }
}

pub(super) fn wear_the_same(like: &Folder, folder: &Folder) -> io::Result<()> {
    let dress = copy::dress_of(&like.stat(Path::new(""))?, Some(like))?;
    copy::dress(folder, &dress)
}
