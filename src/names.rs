//! The names that callers give, and the limits on them.
//!
//! Every name is checked here, once, where it enters; the types below cannot hold a bad one. A dataset's name never
//! becomes a path (datasets live under opaque ids), so nothing a caller sends can reach outside its tenant's storage.

use std::fmt;

use unicode_general_category::{GeneralCategory, get_general_category};
use unicode_normalization::UnicodeNormalization;

use crate::error::{Error, Result, shorten};

/// Characters in one segment of a dataset's name.
pub const MAX_SEGMENT_CHARS: usize = 128;
/// Bytes of a whole dataset name, slashes included.
pub const MAX_NAME_BYTES: usize = 512;
/// Bytes of a tenant's name: the `sub` of an issuer may be that long.
pub const MAX_TENANT_BYTES: usize = 255;
/// What a hash begins with where a tenant's name cannot be part of a bucket's.
const HASHED_LABEL: &str = "x-";
/// The longest folder of a tenant; file systems take 255 bytes.
const MAX_FOLDER_BYTES: usize = 200;
/// Bytes of an external key or an idempotency key.
pub const MAX_KEY_BYTES: usize = 256;
/// The group of versions that gave no external key of their own.
pub const DEFAULT_EXTERNAL_KEY: &str = "default";
/// The other word for [`DEFAULT_EXTERNAL_KEY`], from the first SDK.
pub const NOW: &str = "NOW";
/// The schema in which datasets of a single segment stand in SQL.
pub const PUBLIC_SCHEMA: &str = "public";
/// What every column of our own begins with in stored files.
pub const HIDDEN_PREFIX: &str = "__pdb_";

const RESERVED_FIRST_SEGMENTS: [&str; 2] = [PUBLIC_SCHEMA, "information_schema"];

/// Whose data: what a caller's credentials say, never what a caller says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(String);

impl Default for TenantId {
    fn default() -> Self {
        Self::default_tenant()
    }
}

impl TenantId {
    /// The tenant of a server without authentication.
    pub fn default_tenant() -> Self {
        Self("default".into())
    }

    /// Reads the tenant that credentials name. It is taken byte by byte: nothing is trimmed, folded or normalised.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for an empty or over-long name, and control characters.
    pub fn parse(name: &str) -> Result<Self> {
        if name.is_empty() || name.len() > MAX_TENANT_BYTES || name.chars().any(char::is_control) {
            return Err(Error::invalid(format!(
                "tenant '{}': a tenant's name is 1 to {MAX_TENANT_BYTES} bytes without control characters",
                shorten(name)
            )));
        }
        Ok(Self(name.into()))
    }

    /// The name as one folder, other than that of any other tenant: ASCII letters, digits, `_` and `-` stand for
    /// themselves, and every other byte for `!` and its two hexadecimal digits. For a name that would become too long
    /// stand `!!` and its SHA-256.
    pub fn folder(&self) -> String {
        let mut folder = String::with_capacity(self.0.len());
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') {
                folder.push(char::from(byte));
            } else {
                folder.push_str(&format!("!{byte:02X}"));
            }
        }
        if folder.len() > MAX_FOLDER_BYTES {
            return format!("!!{}", self.sha256());
        }
        folder
    }

    /// The name as part of a bucket's name of at most `room` bytes, other than that of any other tenant: verbatim where
    /// it is made of lower-case letters, digits and inner hyphens and short enough, otherwise `x-` and digits of its
    /// SHA-256. A name that begins like such a hash is hashed too.
    pub fn bucket_label(&self, room: usize) -> String {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let fits = self.0.len() <= room && !self.0.starts_with(HASHED_LABEL);
        if fits && self.0.chars().all(is_plain) && !self.0.starts_with('-') && !self.0.ends_with('-') {
            return self.0.clone();
        }
        let digits: String = self.sha256().chars().take(room.saturating_sub(HASHED_LABEL.len())).collect();
        format!("{HASHED_LABEL}{digits}")
    }

    fn sha256(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, self.0.as_bytes());
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The tenant that a record of ours names.
    pub fn stored(name: &str) -> Self {
        Self(name.into())
    }

    /// The tenant as records hold it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A dataset's name: one or more segments, NFC-normalised, case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DatasetName(String);

impl DatasetName {
    /// Reads `text`, segments joined by `/`.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid), naming the segment and the rule it breaks.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > 4 * MAX_NAME_BYTES {
            return Err(bad_name(text, format_args!("a name is at most {MAX_NAME_BYTES} bytes")));
        }
        let name: String = text.nfc().collect();
        if name.is_empty() {
            return Err(Error::invalid("dataframe_name is empty; give a name such as 'project/dataset'"));
        }
        if name.len() > MAX_NAME_BYTES {
            return Err(bad_name(text, format_args!("a name is at most {MAX_NAME_BYTES} bytes")));
        }
        for (position, segment) in name.split('/').enumerate() {
            check_segment(text, segment)?;
            if position == 0 && RESERVED_FIRST_SEGMENTS.contains(&segment) {
                return Err(bad_name(text, format_args!("'{segment}' cannot be the first segment")));
            }
        }
        Ok(Self(name))
    }

    /// Reads the path of a Flight descriptor: `["a", "b"]` and `["a/b"]` are the same dataset.
    ///
    /// # Errors
    /// As [`DatasetName::parse`].
    pub fn from_path(path: &[String]) -> Result<Self> {
        Self::parse(&path.join("/"))
    }

    /// The dataset that stands in SQL as `schema.table`.
    ///
    /// # Errors
    /// As [`DatasetName::parse`].
    pub fn from_sql(schema: &str, table: &str) -> Result<Self> {
        if table.contains('/') {
            return Err(bad_name(table, format_args!("a table is the last segment alone; the others are its schema")));
        }
        if schema == PUBLIC_SCHEMA { Self::parse(table) } else { Self::parse(&format!("{schema}/{table}")) }
    }

    /// Schema and table as SQL names this dataset.
    pub fn to_sql(&self) -> (&str, &str) {
        self.0.rsplit_once('/').unwrap_or((PUBLIC_SCHEMA, &self.0))
    }

    /// The segments, in order.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The whole name, segments joined by `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn bad_name(name: &str, why: fmt::Arguments<'_>) -> Error {
    Error::invalid(format!("bad dataframe_name '{}': {why}", shorten(name)))
}

fn check_segment(name: &str, segment: &str) -> Result<()> {
    if segment.is_empty() {
        return Err(bad_name(name, format_args!("a segment between slashes is empty")));
    }
    if segment.chars().count() > MAX_SEGMENT_CHARS {
        return Err(bad_name(name, format_args!("a segment is at most {MAX_SEGMENT_CHARS} characters")));
    }
    if let Some(bad) = segment.chars().find(|c| !is_name_char(*c)) {
        return Err(bad_name(
            name,
            format_args!("the character {bad:?} is not allowed; use letters, digits, '_', '-', '.' and space"),
        ));
    }
    if segment.starts_with(['.', ' ']) || segment.ends_with(['.', ' ']) {
        return Err(bad_name(name, format_args!("a segment cannot begin or end with a dot or space")));
    }
    Ok(())
}

fn is_name_char(c: char) -> bool {
    use GeneralCategory as G;
    matches!(c, '_' | '-' | '.' | ' ')
        || matches!(
            get_general_category(c),
            G::UppercaseLetter
                | G::LowercaseLetter
                | G::TitlecaseLetter
                | G::ModifierLetter
                | G::OtherLetter
                | G::NonspacingMark
                | G::SpacingMark
                | G::EnclosingMark
                | G::DecimalNumber
        )
}

/// The caller's own name for a version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ExternalKey(String);

impl ExternalKey {
    /// Reads a key; absent, `NOW` and `default` are the same group.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for an empty or over-long key, control characters or `@`.
    pub fn parse(text: Option<&str>) -> Result<Self> {
        match text {
            None | Some(NOW) => Ok(Self(DEFAULT_EXTERNAL_KEY.into())),
            Some(text) => check_key("external_key", text).map(|()| Self(text.into())),
        }
    }

    /// The key as records hold it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks an external or idempotency key; `field` names it in the message.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) as [`ExternalKey::parse`].
pub fn check_key(field: &str, text: &str) -> Result<()> {
    let shown = shorten(text);
    if text.is_empty() || text.len() > MAX_KEY_BYTES {
        return Err(Error::invalid(format!("{field} '{shown}' must be 1 to {MAX_KEY_BYTES} bytes")));
    }
    if text.chars().any(|c| c.is_control() || c == '@') {
        return Err(Error::invalid(format!("{field} '{shown}' holds a control character or '@'; leave them out")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_every_depth_and_script() {
        for name in ["single_name", "project/dataset", "a/b/c", "été 2024/売上-1.v2", "नमस्ते", "a..b"]
        {
            assert_eq!(DatasetName::parse(name).unwrap().as_str(), name.nfc().collect::<String>());
        }
    }

    #[test]
    fn bad_names_are_refused_with_the_reason() {
        let long = "x".repeat(129);
        let whole = vec!["x".repeat(100); 6].join("/");
        for name in [
            "",
            "/",
            "a//b",
            "/a",
            "a/",
            ".a",
            "a.",
            " a",
            "a ",
            "..",
            "a/../b",
            "a\\b",
            "a\0b",
            "a\nb",
            "a%2e",
            "a@b",
            "a$b",
            "a:b",
            "public",
            "public/a",
            "information_schema",
            "information_schema/x",
            &long,
            &whole,
            "\u{202e}a",
            "a=b",
            "½",
        ] {
            assert!(DatasetName::parse(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn composed_and_decomposed_are_one_name() {
        assert_eq!(DatasetName::parse("e\u{301}").unwrap(), DatasetName::parse("\u{e9}").unwrap());
    }

    #[test]
    fn sql_names() {
        for (name, schema, table) in [("x", "public", "x"), ("my-project/d", "my-project", "d"), ("a/b/c", "a/b", "c")]
        {
            let name = DatasetName::parse(name).unwrap();
            assert_eq!(name.to_sql(), (schema, table));
            assert_eq!(DatasetName::from_sql(schema, table).unwrap(), name);
        }
        assert!(DatasetName::from_sql("a", "b/c").is_err());
    }

    #[test]
    fn tenants_have_folders_of_their_own() {
        let names =
            ["a", "A", "a/b", "ab", "a!2Fb", "a%2Fb", ".", "..", "a ", " a", "\u{e9}", "e\u{301}", "a.b", "a\\b"];
        let folders: std::collections::BTreeSet<_> =
            names.iter().map(|name| TenantId::parse(name).unwrap().folder()).collect();
        assert_eq!(folders.len(), names.len());
        assert!(folders.iter().all(|folder| !folder.contains(['/', '.', '\\', '%'])));
        assert_eq!(TenantId::default_tenant().folder(), "default");
        let long = |end: &str| TenantId::parse(&format!("{}{end}", "|".repeat(250))).unwrap().folder();
        assert!(long("a") != long("b") && long("a").len() < MAX_FOLDER_BYTES);
        for name in ["", "a\0", "a\n", &"x".repeat(MAX_TENANT_BYTES + 1)] {
            assert!(TenantId::parse(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn external_keys() {
        assert_eq!(ExternalKey::parse(None).unwrap(), ExternalKey::parse(Some("NOW")).unwrap());
        assert_eq!(ExternalKey::parse(Some("default")).unwrap(), ExternalKey::parse(Some("NOW")).unwrap());
        for key in ["", "a@b", "a\n", &"k".repeat(257)] {
            assert!(ExternalKey::parse(Some(key)).is_err(), "{key:?}");
        }
    }

    proptest! {
        #[test]
        fn folders_of_two_tenants_differ(one in "[a-b/!.%2F]{1,6}", other in "[a-b/!.%2F]{1,6}") {
            let folder = |name: &str| TenantId::parse(name).unwrap().folder();
            prop_assert_eq!(folder(&one) == folder(&other), one == other);
        }

        #[test]
        fn a_name_that_parses_is_stable_and_within_its_alphabet(text in "\\PC{0,40}") {
            if let Ok(name) = DatasetName::parse(&text) {
                prop_assert_eq!(DatasetName::parse(name.as_str()).unwrap(), name.clone());
                prop_assert!(name.segments().all(|s| !s.is_empty() && s != ".."));
            }
        }
    }
}
