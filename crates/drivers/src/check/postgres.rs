//! PostgreSQL: settings as they are in effect for the role and database that use them, and extensions.
//!
//! A setting may be written in a file and not be in effect: a restart is pending, or the role or the database
//! overrides it. What a session gets at its log-in is what counts.

use super::{Sight, Wrong};
use crate::sql::{Database, DatabaseConfig, Limits, Scalar, SqlError, Table, Worker};
use lastgood_domain::{
    failure::{Coded as _, Failure},
    terms::Span,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::{Value, json};
use std::{borrow::Cow, collections::BTreeMap, fmt};

/// A PostgreSQL database: settings in effect, extensions and their versions.
///
/// ```toml
/// [preflight.database]
/// postgres = { database = "app", settings = { wal_level = "logical", statement_timeout = { at_most = "30s" } } }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresCheck {
    /// The database, of `[database.NAME]`: a session of its role in it is looked at.
    pub database: String,
    /// The role whose sessions count, if it is another than the one that asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Settings and what they must be in effect: `"logical"`, `true`, `100`, `"30s"`, `{ at_least = 100 }`,
    /// `{ at_most = "30s" }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, SettingWanted>,
    /// Extensions that must be installed there, and their lowest version, such as `"1.6"`; `""` is any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extensions: BTreeMap<String, String>,
}

/// What a setting must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingWanted {
    /// This; numbers by value, with their units.
    Is(String),
    /// This or more.
    AtLeast(String),
    /// This or less.
    AtMost(String),
}

impl fmt::Display for SettingWanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(value) => f.write_str(value),
            Self::AtLeast(value) => write!(f, "at least {value}"),
            Self::AtMost(value) => write!(f, "at most {value}"),
        }
    }
}

/// A setting as a session finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    value: String,
    unit: String,
    kind: String,
    pending_restart: bool,
    /// Where the value comes from, for people.
    from: String,
}

/// A setting of a role or database, which goes before the server's.
struct Override {
    /// Of which role; none is of all.
    role: Option<String>,
    of_database: bool,
    name: String,
    value: String,
}

impl PostgresCheck {
    /// Tells what no single key shows.
    pub fn problem(&self) -> Option<String> {
        let asks = !self.settings.is_empty() || !self.extensions.is_empty();
        (!asks).then(|| "it asks for nothing: give settings or extensions".into())
    }

    pub(super) fn look(&self, sight: &Sight) -> Result<String, Wrong> {
        let database = open(&self.database, sight)?;
        let mut seen = Vec::new();
        if !self.settings.is_empty() {
            let settings = self.settings(&database, sight)?;
            for (name, wanted) in &self.settings {
                let setting = settings.get(name).ok_or_else(|| {
                    let what = format!("{} has no setting {name}, or keeps it from this role", self.database);
                    Wrong::unknown("preflight-setting-unknown", what, psql(&format!("SHOW {name}")))
                })?;
                judge(name, setting, wanted, &self.whom())?;
            }
            seen.push(format!("{} settings in effect", self.settings.len()));
        }
        if !self.extensions.is_empty() {
            self.extensions_fit(&database, sight)?;
            seen.push(format!("{} extensions installed", self.extensions.len()));
        }
        Ok(format!("{}: {}", self.database, seen.join(", ")))
    }

    fn whom(&self) -> String {
        match &self.role {
            Some(role) => format!("{} for {role}", self.database),
            None => self.database.clone(),
        }
    }

    /// Reads the settings that the role's sessions get.
    fn settings(&self, database: &Database, sight: &Sight) -> Result<BTreeMap<String, Setting>, Wrong> {
        let names: Vec<String> = self.settings.keys().map(|name| literal(&name.to_lowercase())).collect();
        // What a session gets at its log-in is what RESET would give it; our own SETs are not in that.
        let rows = ask(
            database,
            &format!(
                "SELECT name, coalesce(reset_val, ''), coalesce(unit, ''), vartype, pending_restart, current_user::text \
                 FROM pg_settings WHERE lower(name) IN ({})",
                names.join(", ")
            ),
            sight,
        )?;
        let us = text(&rows, 0, 5);
        let overrides = self.overrides(database, &us, sight)?;
        let whom = self.role.clone().unwrap_or_else(|| us.clone());
        let mut found = BTreeMap::new();
        for row in 0..rows.rows.len() {
            let name = self.settings.keys().find(|name| name.eq_ignore_ascii_case(&text(&rows, row, 0)));
            let Some(name) = name else { continue };
            let mut setting = Setting {
                value: text(&rows, row, 1),
                unit: text(&rows, row, 2),
                kind: text(&rows, row, 3),
                pending_restart: rows.rows[row].get(4) == Some(&Scalar::Boolean(true)),
                from: "the server's configuration".into(),
            };
            let of = |role: Option<&str>, of_database| {
                overrides.iter().find(|one| {
                    one.role.as_deref() == role && one.of_database == of_database && one.name.eq_ignore_ascii_case(name)
                })
            };
            // In the order in which PostgreSQL prefers them.
            let places = [(Some(whom.as_str()), true), (Some(whom.as_str()), false), (None, true), (None, false)];
            let first = places.into_iter().find_map(|(role, of_database)| Some((of(role, of_database)?, role)));
            if let Some((one, role)) = first {
                setting.from = match (role, one.of_database) {
                    (Some(role), true) => format!("ALTER ROLE {role} IN DATABASE"),
                    (Some(role), false) => format!("ALTER ROLE {role}"),
                    (None, true) => "ALTER DATABASE".into(),
                    (None, false) => "ALTER ROLE ALL".into(),
                };
                if whom != us {
                    setting.value.clone_from(&one.value);
                }
            } else if whom != us && (of(Some(&us), true).is_some() || of(Some(&us), false).is_some()) {
                let what = format!("{us} has a {name} of its own, so that what {whom} gets can't be told");
                let fix = format!("ask as {whom} itself: [database.NAME] with user={whom}");
                return Err(Wrong::unknown("preflight-setting-unknown", what, fix));
            }
            found.insert(name.clone(), setting);
        }
        Ok(found)
    }

    fn overrides(&self, database: &Database, us: &str, sight: &Sight) -> Result<Vec<Override>, Wrong> {
        let mut roles = vec![literal(us)];
        if let Some(role) = &self.role {
            let there = ask(database, &format!("SELECT 1 FROM pg_roles WHERE rolname = {}", literal(role)), sight)?;
            if there.rows.is_empty() {
                let what = format!("{} has no role {role}", self.database);
                return Err(Wrong::fails("preflight-setting-unknown", what, psql("\\du")));
            }
            roles.push(literal(role));
        }
        let rows = ask(
            database,
            &format!(
                "SELECT coalesce(r.rolname, '')::text, s.setdatabase <> 0, split_part(one, '=', 1), \
                 substr(one, strpos(one, '=') + 1) \
                 FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) one \
                 WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) \
                 AND (s.setrole = 0 OR r.rolname IN ({}))",
                roles.join(", ")
            ),
            sight,
        )?;
        let each = (0..rows.rows.len()).map(|row| Override {
            role: Some(text(&rows, row, 0)).filter(|role| !role.is_empty()),
            of_database: rows.rows[row].get(1) == Some(&Scalar::Boolean(true)),
            name: text(&rows, row, 2),
            value: text(&rows, row, 3),
        });
        Ok(each.collect())
    }

    fn extensions_fit(&self, database: &Database, sight: &Sight) -> Result<(), Wrong> {
        let rows = ask(database, "SELECT extname::text, extversion FROM pg_extension", sight)?;
        let installed: BTreeMap<String, String> =
            (0..rows.rows.len()).map(|row| (text(&rows, row, 0), text(&rows, row, 1))).collect();
        for (name, lowest) in &self.extensions {
            let Some(version) = installed.get(name) else {
                let what = format!("{} has no extension {name}", self.database);
                return Err(Wrong::fails(
                    "preflight-extension-missing",
                    what,
                    psql(&format!("CREATE EXTENSION {name}")),
                ));
            };
            if parts(version) < parts(lowest) {
                let what = format!("{} has {name} {version}, at least {lowest} wanted", self.database);
                let fix = psql(&format!("ALTER EXTENSION {name} UPDATE"));
                return Err(Wrong::fails("preflight-extension-old", what, fix));
            }
        }
        Ok(())
    }
}

fn judge(name: &str, setting: &Setting, wanted: &SettingWanted, whom: &str) -> Result<(), Wrong> {
    let Setting { value, unit, kind, pending_restart, from } = setting;
    let shown = format!("{value}{}", if unit.is_empty() { String::new() } else { format!(" ({unit})") });
    let fits = match (wanted, kind.as_str()) {
        (SettingWanted::Is(text), "bool") => truth(text).map(|wanted| Some(wanted) == truth(value)),
        (SettingWanted::Is(text), "integer" | "real") => {
            base(text, unit).zip(base(value, unit)).map(|(wanted, found)| wanted == found)
        }
        (SettingWanted::Is(text), "enum") => Some(text.eq_ignore_ascii_case(value)),
        (SettingWanted::Is(text), _) => Some(text == value),
        (SettingWanted::AtLeast(text), _) => base(value, unit).zip(base(text, unit)).map(|(found, low)| found >= low),
        // Without a time-out a session waits for ever, which is more than any limit.
        (SettingWanted::AtMost(_), _) if name.ends_with("_timeout") && base(value, unit) == Some(0.0) => Some(false),
        (SettingWanted::AtMost(text), _) => base(value, unit).zip(base(text, unit)).map(|(found, high)| found <= high),
    };
    match fits {
        None => {
            let what = format!("{name} of {whom} is {shown}, which can't be compared with {wanted}");
            Err(Wrong::unknown("preflight-setting-unknown", what, psql(&format!("SHOW {name}"))))
        }
        Some(false) => {
            let what = format!("{name} of {whom} is {shown} by {from}, {wanted} wanted");
            let fix = psql(&format!("SELECT * FROM pg_settings WHERE name = '{name}'"));
            Err(Wrong::fails("preflight-setting-wrong", what, fix))
        }
        // It is right now, and another one after the next restart.
        Some(true) if *pending_restart => {
            let what =
                format!("{name} of {whom} is {shown}, but the configuration has another value for the next start");
            Err(Wrong::fails("preflight-setting-pending", what, "systemctl restart postgresql, or put the value back"))
        }
        Some(true) => Ok(()),
    }
}

fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some(true),
        "off" | "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// Gives a number in the setting's own unit: `30s` is 30000 where that is `ms`.
fn base(text: &str, unit: &str) -> Option<f64> {
    let text = text.trim();
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let number: f64 = text[..split].trim().parse().ok()?;
    let given = text[split..].trim();
    if given.is_empty() {
        return Some(number);
    }
    let split = unit.find(|c: char| c.is_ascii_alphabetic())?;
    let times: f64 = if split == 0 { 1.0 } else { unit[..split].parse().ok()? };
    let (given, own) = (size_of(given)?, size_of(&unit[split..])?);
    (given.1 == own.1).then(|| number * given.0 / (own.0 * times))
}

/// Gives how large a unit is, and whether it is one of time.
fn size_of(unit: &str) -> Option<(f64, bool)> {
    Some(match unit {
        "us" => (1e-6, true),
        "ms" => (1e-3, true),
        "s" => (1.0, true),
        "min" => (60.0, true),
        "h" => (3_600.0, true),
        "d" => (86_400.0, true),
        "B" => (1.0, false),
        "kB" => (1_024.0, false),
        "MB" => (1_048_576.0, false),
        "GB" => (1_073_741_824.0, false),
        "TB" => (1_099_511_627_776.0, false),
        _ => return None,
    })
}

/// Splits a version for comparing: `1.10` is above `1.9`.
fn parts(version: &str) -> Vec<u64> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// Makes the database ready that a check names.
pub(super) fn open(name: &str, sight: &Sight) -> Result<Database, Wrong> {
    let config = sight.databases.get(name);
    let Some(config @ DatabaseConfig::Postgres { .. }) = config else {
        let what = format!("{name} is no PostgreSQL database of this configuration");
        return Err(Wrong::unknown("preflight-database", what, "[database.NAME] with postgres = \"…\""));
    };
    // Only SQLite files are read by another process.
    let worker = Worker::new("");
    Database::prepare(name, config, &sight.folder, &worker, &sight.secrets).map_err(|error| unanswered(&error))
}

/// Asks one question.
pub(super) fn ask(database: &Database, sql: &str, sight: &Sight) -> Result<Table, Wrong> {
    let time = Span(u64::try_from(sight.left().as_millis()).unwrap_or(u64::MAX).max(1));
    database.query(sql, Limits { time, ..Limits::default() }).map_err(|error| unanswered(&error))
}

fn unanswered(error: &SqlError) -> Wrong {
    let fix = error.hint().unwrap_or_else(|| "see whether it runs: pg_isready".into());
    Wrong::unknown("preflight-database", format!("{} [{}]", Failure::of(error).message, error.code()), fix)
}

pub(super) fn text(table: &Table, row: usize, column: usize) -> String {
    match table.rows.get(row).and_then(|row| row.get(column)) {
        None | Some(Scalar::Null) => String::new(),
        Some(value) => value.to_string(),
    }
}

/// Writes a text as SQL takes it, whatever the server thinks of backslashes.
pub(super) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

pub(super) fn psql(statement: &str) -> String {
    format!("psql -c \"{statement}\"")
}

impl<'de> Deserialize<'de> for SettingWanted {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let wrong = "write a value, { at_least = ... } or { at_most = ... }";
        let plain = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
            _ => None,
        };
        let value = Value::deserialize(from)?;
        let wanted = match &value {
            Value::Object(fields) => match (fields.len(), fields.iter().next()) {
                (1, Some((key, value))) if key == "at_least" => plain(value).map(Self::AtLeast),
                (1, Some((key, value))) if key == "at_most" => plain(value).map(Self::AtMost),
                _ => None,
            },
            value => plain(value).map(Self::Is),
        };
        wanted.ok_or_else(|| D::Error::custom(wrong))
    }
}

impl Serialize for SettingWanted {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Is(value) => value.serialize(to),
            Self::AtLeast(value) => json!({ "at_least": value }).serialize(to),
            Self::AtMost(value) => json!({ "at_most": value }).serialize(to),
        }
    }
}

impl JsonSchema for SettingWanted {
    fn schema_name() -> Cow<'static, str> {
        "SettingWanted".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "A value, { at_least = ... } or { at_most = ... }; numbers may have PostgreSQL's units." })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_in_the_settings_own_unit() {
        assert_eq!(base("30s", "ms"), Some(30_000.0));
        assert_eq!(base("30000", "ms"), Some(30_000.0));
        assert_eq!(base("128MB", "8kB"), Some(16_384.0));
        assert_eq!(base("1.5", ""), Some(1.5));
        assert_eq!(
            (base("30s", "8kB"), base("x", "ms"), base("3 apples", "ms"), base("1s", "")),
            (None, None, None, None)
        );
    }

    #[test]
    fn versions_are_compared_part_by_part() {
        assert!(parts("1.10") > parts("1.9") && parts("1.6") >= parts("1.6") && parts("2.0") >= parts(""));
    }

    #[test]
    fn no_name_leaves_its_quotes() {
        assert_eq!(literal("a'; DROP TABLE x --\\"), "E'a''; DROP TABLE x --\\\\'");
    }
}
