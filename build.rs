//! Builds the web pages and embeds them.
//!
//! The sources in `web/` are copied to the build's own directory, built there by npm against the lock file, and every file of the result becomes a
//! constant. `RINGDESK_WEB_DIST=<folder>` names a bundle that was built already; then npm is not needed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Parts of `web/` that are no sources.
const NO_SOURCES: [&str; 2] = ["node_modules", "dist"];

fn main() {
    println!("cargo:rerun-if-env-changed=RINGDESK_WEB_DIST");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo names it"));
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo names it"));
    let dist = match env::var_os("RINGDESK_WEB_DIST") {
        Some(dist) => {
            println!("cargo:rerun-if-changed={}", PathBuf::from(&dist).display());
            PathBuf::from(dist)
        }
        None => build(&root.join("web"), &out.join("web")),
    };
    let mut files = Vec::new();
    collect(&dist, &dist, &mut files);
    files.sort();
    for page in ["visitor.html", "agent.html"] {
        assert!(
            files.iter().any(|(path, _)| path == page),
            "{} has no {page}: is it a bundle of web/?",
            dist.display()
        );
    }
    fs::write(out.join("bundle.rs"), table(&files)).expect("the build's directory can be written");
}

/// Copies the sources, installs what the lock file says unless it is there already, and builds. Returns where the bundle is.
fn build(source: &Path, work: &Path) -> PathBuf {
    let mut sources = Vec::new();
    for entry in fs::read_dir(source).unwrap_or_else(|error| panic!("{}: {error}", source.display())) {
        let path = entry.expect("web/ can be listed").path();
        let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
        if !NO_SOURCES.contains(&name.as_str()) {
            println!("cargo:rerun-if-changed={}", path.display());
            sources.push(path);
        }
    }
    let lock = fs::read(source.join("package-lock.json")).expect("web/ has a lock file");
    let lock = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&lock));
    fs::create_dir_all(work).expect("the build's directory can be written");
    for entry in fs::read_dir(work).expect("the build's directory can be listed") {
        let path = entry.expect("the build's directory can be listed").path();
        let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
        if name != "node_modules" && name != "installed" {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.expect("what an earlier build left can be removed");
        }
    }
    for path in &sources {
        copy(path, &work.join(path.file_name().expect("it has a name")));
    }
    if fs::read_to_string(work.join("installed")).ok().as_deref() != Some(lock.as_str()) {
        npm(work, &["ci", "--no-audit", "--no-fund", "--ignore-scripts"]);
        fs::write(work.join("installed"), &lock).expect("the build's directory can be written");
    }
    npm(work, &["run", "build"]);
    work.join("dist")
}

fn npm(work: &Path, arguments: &[&str]) {
    let output = match Command::new("npm").args(arguments).current_dir(work).output() {
        Ok(output) => output,
        Err(error) => panic!(
            "npm cannot be run ({error}). The web pages are built with Node.js 20.19 or later: install it, or set RINGDESK_WEB_DIST to a folder \
             with a bundle that was built elsewhere (cd web && npm ci && npm run build; the folder is web/dist)"
        ),
    };
    assert!(
        output.status.success(),
        "`npm {}` in {} failed; RINGDESK_WEB_DIST=<folder> takes a bundle that was built elsewhere\n{}\n{}",
        arguments.join(" "),
        work.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).expect("the build's directory can be written");
        for entry in fs::read_dir(from).expect("web/ can be listed") {
            let path = entry.expect("web/ can be listed").path();
            copy(&path, &to.join(path.file_name().expect("it has a name")));
        }
    } else {
        fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
}

/// Every file below `folder`, with its path in the bundle.
fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, PathBuf)>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| {
        panic!("{}: {error}; RINGDESK_WEB_DIST must name a folder with the built pages", folder.display())
    });
    for entry in entries {
        let path = entry.expect("the bundle can be listed").path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let name =
                path.strip_prefix(root).expect("it is below").to_str().expect("names are UTF-8").to_owned();
            files.push((name, path.canonicalize().expect("it is there")));
        }
    }
}

/// The table of files as Rust.
fn table(files: &[(String, PathBuf)]) -> String {
    let mut out = String::from("static FILES: &[File] = &[\n");
    for (name, path) in files {
        let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let kind = match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
            "html" => "text/html; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            "png" => "image/png",
            "ico" => "image/x-icon",
            "woff2" => "font/woff2",
            "json" | "map" => "application/json",
            "webmanifest" => "application/manifest+json",
            "mp3" => "audio/mpeg",
            "ogg" => "audio/ogg",
            "txt" => "text/plain; charset=utf-8",
            _ => "application/octet-stream",
        };
        let etag = format!("\"{:032x}\"", xxhash_rust::xxh3::xxh3_128(&bytes));
        let _ = writeln!(
            out,
            "    File {{ path: {name:?}, content_type: {kind:?}, etag: {etag:?}, bytes: include_bytes!({:?}) }},",
            path.to_str().expect("paths are UTF-8")
        );
    }
    out.push_str("];\n");
    out
}
