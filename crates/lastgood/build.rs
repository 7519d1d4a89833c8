//! Puts the pages of docs/errors into the program, so that an installed one can print them.

use std::{env, fmt::Write as _, fs, io, path::Path};

fn main() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors").canonicalize()?;
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut names: Vec<String> =
        fs::read_dir(&folder)?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let mut table = String::from("&[\n");
    for name in names {
        let Some(code) = name.strip_suffix(".md").filter(|code| *code != "README") else { continue };
        // Writing to a string can't fail.
        let _ = writeln!(table, "    ({code:?}, include_str!({:?})),", folder.join(&name));
    }
    table += "]\n";
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    fs::write(Path::new(&out).join("error_pages.rs"), table)
}
