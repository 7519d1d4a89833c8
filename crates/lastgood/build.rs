//! Puts the pages of docs/errors into the program, so that an installed one can print them.

use std::{env, fmt::Write as _, fs, io, path::Path};

fn main() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors").canonicalize()?;
    println!("cargo::rerun-if-changed={}", folder.display());
    let names = fs::read_dir(&folder)?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut codes: Vec<String> = names.filter_map(|name| name.strip_suffix(".md").map(str::to_owned)).collect();
    codes.retain(|code| code != "README");
    codes.sort();
    let mut table = String::from("&[\n");
    for code in codes {
        // Writing to a string can't fail.
        let _ = writeln!(table, "    ({code:?}, include_str!({:?})),", folder.join(format!("{code}.md")));
    }
    table += "]\n";
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    fs::write(Path::new(&out).join("error_pages.rs"), table)
}
