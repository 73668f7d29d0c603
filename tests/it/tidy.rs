//! What no compiler checks: layers, sizes, first comments, banned names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::root;

/// A module may name modules of a lower number, and itself. `main.rs` may name everything.
const LAYERS: &[(&str, u32)] = &[
    ("error", 0),
    ("clock", 0),
    ("proto", 1),
    ("names", 1),
    ("metrics", 1),
    ("aws", 1),
    ("config", 1),
    ("wire", 1),
    ("formats", 1),
    ("audit", 1),
    ("pem", 1),
    ("storage", 2),
    ("versions", 2),
    ("auth", 2),
    ("call", 2),
    ("table", 3),
    ("query", 4),
    ("flight", 5),
    ("cli", 5),
    ("http", 6),
    ("telemetry", 6),
    ("server", 7),
];
/// Lines of code of a file, without its tests.
const MAX_FILE_LINES: usize = 600;
const MAX_LINE_CHARS: usize = 120;
const BANNED_FILE_NAMES: [&str; 6] = ["utils", "common", "helpers", "misc", "manager", "types_"];

fn sources() -> Vec<(PathBuf, String)> {
    fn collect(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(folder).expect("src can be listed") {
            let path = entry.expect("an entry of src").path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source file is text");
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    collect(&root().join("src"), &mut found);
    assert!(found.len() > 30, "the sources are where this test looks");
    found
}

/// The top-level module a file belongs to; `None` for `lib.rs` and `main.rs`.
fn module_of(path: &Path) -> Option<String> {
    let inner = path.strip_prefix(root().join("src")).ok()?;
    let first = inner.components().next()?.as_os_str().to_str()?.trim_end_matches(".rs").to_string();
    (!matches!(first.as_str(), "lib" | "main")).then_some(first)
}

/// Modules that code names by `crate::module`, also in grouped imports.
fn named_modules(code: &str) -> Vec<String> {
    let mut named = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            panic!("name each module by itself, not in a group: crate::{{{}", &group[..group.len().min(40)]);
        }
        named.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
    }
    named
}

/// The file without comments, which may link to anything.
fn code_of(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn dependencies_point_down() {
    let layers: BTreeMap<&str, u32> = LAYERS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Some(module) = module_of(&path) else { continue };
        let own = *layers.get(module.as_str()).unwrap_or_else(|| panic!("{module} has no layer in this test"));
        for named in named_modules(&code_of(&text)) {
            if named == module {
                continue;
            }
            match layers.get(named.as_str()) {
                Some(other) if *other < own => {}
                Some(other) => wrong.push(format!("{}: {module} ({own}) names {named} ({other})", path.display())),
                None => wrong.push(format!("{}: names crate::{named}, which has no layer", path.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that point up or sideways:\n{}", wrong.join("\n"));
}

#[test]
fn the_layer_test_sees_an_arrow_that_points_up() {
    assert_eq!(named_modules("use crate::query::Engine;\nlet x = crate::table::Load;"), ["query", "table"]);
    assert_eq!(named_modules(&code_of("/// see [`x`](crate::server)\nuse crate::error::Error;")), ["error"]);
}

#[test]
fn files_are_small_introduced_and_well_named() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let shown = path.display();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        if path.ends_with("proto/generated.rs") {
            continue;
        }
        if BANNED_FILE_NAMES.contains(&name) {
            wrong.push(format!("{shown}: the name says nothing"));
        }
        if name != "tests" && !text.starts_with("//!") {
            wrong.push(format!("{shown}: begins without saying what it is"));
        }
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        if code.lines().count() > MAX_FILE_LINES {
            wrong.push(format!("{shown}: {} lines, at most {MAX_FILE_LINES}", code.lines().count()));
        }
        for (number, line) in text.lines().enumerate().filter(|(_, line)| line.chars().count() > MAX_LINE_CHARS) {
            wrong.push(format!("{shown}:{}: {} characters", number + 1, line.chars().count()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
