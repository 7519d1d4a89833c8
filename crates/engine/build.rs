//! Gives the fold its name: see `src/fold/source.rs`.

#[path = "src/fold/source.rs"]
mod source;

use std::{io, path::Path};

fn main() -> io::Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for source in source::SOURCES {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    println!("cargo::rustc-env=LASTGOOD_FOLD={}", source::mark(&workspace)?);
    Ok(())
}
