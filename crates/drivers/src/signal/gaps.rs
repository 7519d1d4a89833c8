//! Mutation gaps: changes of a table that its change log doesn't know.
//!
//! Triggers write a row for each change: the key, and an image of the row before and after it. A change that went past
//! them is found in two ways: what the log says last of a key is not what the table has, or a log row's *before* is not the
//! *after* of the one before it. PostgreSQL's image is a digest; SQLite has none built in, so there it is the row itself.

use super::{Reading, SignalError};
use crate::sql::{Database, Dialect, Limits, Scalar};
use lastgood_domain::terms::Span;

/// Keys that are named; the count says how many there are.
const EXAMPLES_MAX: u32 = 3;
/// Triggers of one table in SQLite.
const SQLITE_TRIGGERS: [&str; 4] = ["insert", "update", "rekey", "delete"];
/// Begins the names of all that is installed.
const OURS: &str = "lastgood_changes_";

/// A table whose every change must have its row in the change log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    schema: Option<String>,
    table: String,
    key: Vec<String>,
}

impl Watched {
    /// Names the longest table: PostgreSQL cuts names at 63 bytes, and ours begin with 17.
    pub const TABLE_BYTES_MAX: usize = 40;

    /// Watches `table`, such as `accounts` or `public.accounts`, whose rows `key` tells apart.
    ///
    /// Errors: a name that is empty, too long or can't stand in a script, or no key.
    pub fn new(table: &str, key: &[String]) -> Result<Self, String> {
        let (schema, name) = match table.split_once('.') {
            Some((schema, name)) => (Some(schema.to_owned()), name),
            None => (None, table),
        };
        let bad = |text: &str| unfit(text) || text.contains('.');
        if bad(name) || schema.as_deref().is_some_and(bad) || name.len() > Self::TABLE_BYTES_MAX {
            let most = Self::TABLE_BYTES_MAX;
            return Err(format!("table {table:?} is not a name of at most {most} bytes without line breaks and $$"));
        }
        if key.is_empty() || key.iter().any(|column| bad(column)) {
            return Err("key names the columns of the primary key, such as key = [\"id\"]".into());
        }
        Ok(Self { schema, table: name.into(), key: key.to_vec() })
    }

    /// Counts the changes without a log row, as of one moment.
    pub(super) fn count(&self, database: &Database, limit: Span) -> Result<Reading, SignalError> {
        let limits = Limits { time: limit, rows: EXAMPLES_MAX };
        if let Some(placed) = self.placed(database, limits)? {
            return placed.count(database, limit);
        }
        let images = self.images(database, limits)?;
        let table = database.query(&self.question(database.dialect(), &images), limits)?;
        let mut value = 0.0;
        let mut examples = Vec::new();
        for row in &table.rows {
            let [count, key, what] = row.as_slice() else { continue };
            value = count.as_number().unwrap_or_default();
            examples.push(format!("{key} {what}"));
        }
        // What is found is found, whoever turned the triggers off.
        if value == 0.0 && !self.in_force(database, limits)? {
            return Err(SignalError::TriggersOff { table: self.name() });
        }
        Ok(Reading { value, detail: examples.join(", ") })
    }

    /// Writes the statements that make the change log and its triggers, and take the table as it is for the beginning.
    ///
    /// Run once more they take it as it is then: gaps that were there are accepted by that.
    /// Errors: the table must be there, because triggers name its columns in SQLite and its schema in PostgreSQL.
    pub fn script(&self, database: &Database, limits: Limits) -> Result<String, SignalError> {
        if let Some(placed) = self.placed(database, limits)? {
            return placed.script(database, limits);
        }
        let images = self.images(database, limits)?;
        Ok(match database.dialect() {
            Dialect::Postgres => self.postgres_script(),
            Dialect::Sqlite => self.sqlite_script(&images),
        })
    }

    /// Finds the schema of a PostgreSQL table that was named without one.
    ///
    /// The trigger runs with a search path of its own, so that nobody's objects come before ours: everything it names
    /// needs its schema. `None` if it has one.
    fn placed(&self, database: &Database, limits: Limits) -> Result<Option<Self>, SignalError> {
        if self.schema.is_some() || database.dialect() != Dialect::Postgres {
            return Ok(None);
        }
        let sql = format!(
            "SELECT n.nspname::text FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n \
             ON n.oid = c.relnamespace WHERE c.oid = pg_catalog.to_regclass({})",
            text(&quoted(&self.table))
        );
        let table = database.query(&sql, limits)?;
        let missing = || SignalError::NoTable { table: self.name(), column: self.key.join(", ") };
        let schema = table.rows.first().and_then(|row| row.first()).map(Scalar::to_string).ok_or_else(missing)?;
        if unfit(&schema) {
            return Err(missing());
        }
        Ok(Some(Self { schema: Some(schema), ..self.clone() }))
    }

    fn name(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{schema}.{}", self.table),
            None => self.table.clone(),
        }
    }

    /// Names something beside the table, quoted.
    fn beside(&self, name: &str) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(name)),
            None => quoted(name),
        }
    }

    fn log(&self) -> String {
        self.beside(&format!("{OURS}{}", self.table))
    }

    /// Gives the columns whose values are a row's image; empty for PostgreSQL, which takes rows whole.
    fn images(&self, database: &Database, limits: Limits) -> Result<Vec<String>, SignalError> {
        if database.dialect() == Dialect::Postgres {
            return Ok(Vec::new());
        }
        let sql = format!("SELECT name FROM pragma_table_info({})", text(&self.table));
        let table = database.query(&sql, Limits { rows: 2_000, ..limits })?;
        let columns: Vec<String> = table.rows.iter().flatten().map(Scalar::to_string).collect();
        // SQLite takes a name in any case.
        let is_there = |column: &String| columns.iter().any(|one| one.eq_ignore_ascii_case(column));
        match self.key.iter().find(|column| !is_there(column)) {
            Some(column) => Err(SignalError::NoTable { table: self.name(), column: column.clone() }),
            None => Ok(columns),
        }
    }

    fn in_force(&self, database: &Database, limits: Limits) -> Result<bool, SignalError> {
        let (sql, wanted) = match database.dialect() {
            Dialect::Postgres => (
                format!(
                    "SELECT count(*) FROM pg_catalog.pg_trigger WHERE tgrelid = {}::regclass \
                     AND tgname = 'lastgood_changes' AND tgenabled IN ('O', 'A')",
                    text(&self.beside(&self.table))
                ),
                1,
            ),
            Dialect::Sqlite => (
                format!(
                    "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = {} COLLATE NOCASE AND name IN ({})",
                    text(&self.table),
                    SQLITE_TRIGGERS.map(|act| text(&self.sqlite_trigger(act))).join(", ")
                ),
                SQLITE_TRIGGERS.len() as i64,
            ),
        };
        let table = database.query(&sql, limits)?;
        Ok(table.scalar() == Ok(&Scalar::Integer(wanted)))
    }

    fn question(&self, dialect: Dialect, images: &[String]) -> String {
        let (log, table) = (self.log(), self.beside(&self.table));
        let (key, image, differs) = match dialect {
            Dialect::Postgres => {
                (self.postgres_key("r"), format!("{}(r)", self.beside("lastgood_image")), "IS DISTINCT FROM")
            }
            Dialect::Sqlite => (sqlite_key("r", &self.key), sqlite_row("r", images), "IS NOT"),
        };
        format!(
            "WITH log AS (SELECT seq, key, op, before, after,
                lag(after) OVER w AS previous, lag(seq) OVER w AS earlier,
                max(CASE WHEN op = 'baseline' THEN seq ELSE 0 END) OVER (PARTITION BY key) AS based,
                row_number() OVER (PARTITION BY key ORDER BY seq DESC) AS newest
              FROM {log} WINDOW w AS (PARTITION BY key ORDER BY seq)),
            now_there AS (SELECT {key} AS key, {image} AS image FROM {table} AS r WHERE {key} IS NOT NULL),
            gap AS (
              SELECT coalesce(now_there.key, log.key) AS key,
                CASE WHEN log.key IS NULL THEN 'was written and is not in the log'
                     WHEN now_there.key IS NULL THEN 'is gone and the log does not say so'
                     WHEN log.after IS NULL THEN 'was written again after the log said it is gone'
                     ELSE 'is not as the log says' END AS what
              FROM now_there FULL JOIN (SELECT * FROM log WHERE newest = 1) AS log ON log.key = now_there.key
              WHERE log.after {differs} now_there.image OR log.key IS NULL
              UNION ALL
              SELECT key, 'was changed between two rows of the log' FROM log
              WHERE seq > based AND ((earlier IS NULL AND op <> 'insert')
                OR (earlier IS NOT NULL AND before {differs} previous)))
            SELECT count(*) OVER (), key, what FROM gap ORDER BY key, what"
        )
    }

    fn postgres_key(&self, row: &str) -> String {
        let columns: Vec<String> = self.key.iter().map(|column| format!("{row}.{}", quoted(column))).collect();
        format!("pg_catalog.jsonb_build_array({})::text", columns.join(", "))
    }

    fn postgres_script(&self) -> String {
        let (log, table) = (self.log(), self.beside(&self.table));
        let (image, write) = (self.beside("lastgood_image"), self.beside(&format!("lastgood_log_{}", self.table)));
        let (old, new, row) = (self.postgres_key("OLD"), self.postgres_key("NEW"), self.postgres_key("r"));
        format!(
            "-- The change log of {table}: a row for each change, written by a trigger.
CREATE TABLE IF NOT EXISTS {log} (
  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  by text NOT NULL DEFAULT session_user,
  op text NOT NULL, key text NOT NULL, before text, after text);
-- What a row is, whatever the settings of the session.
CREATE OR REPLACE FUNCTION {image}(anyelement) RETURNS text LANGUAGE sql STABLE
  SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres'
  SET extra_float_digits = 1 SET bytea_output = 'hex' SET search_path = pg_catalog, pg_temp
  AS $$ SELECT encode(sha256(convert_to($1::text, 'UTF8')), 'hex') $$;
-- As its owner, so that who may change the table needs no rights to the log.
CREATE OR REPLACE FUNCTION {write}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO {log} (op, key, after) VALUES ('insert', {new}, {image}(NEW));
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO {log} (op, key, before) VALUES ('delete', {old}, {image}(OLD));
  ELSIF {old} = {new} THEN
    INSERT INTO {log} (op, key, before, after) VALUES ('update', {new}, {image}(OLD), {image}(NEW));
  ELSE
    INSERT INTO {log} (op, key, before) VALUES ('delete', {old}, {image}(OLD));
    INSERT INTO {log} (op, key, after) VALUES ('insert', {new}, {image}(NEW));
  END IF;
  RETURN NULL;
END $$;
LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE;
DROP TRIGGER IF EXISTS lastgood_changes ON {table};
CREATE TRIGGER lastgood_changes AFTER INSERT OR UPDATE OR DELETE ON {table}
  FOR EACH ROW EXECUTE FUNCTION {write}();
-- From here on: the table as it is now.
INSERT INTO {log} (op, key, after)
  SELECT 'baseline', key, NULL FROM (SELECT DISTINCT key FROM {log}) AS known
  WHERE key NOT IN (SELECT {row} FROM {table} AS r);
INSERT INTO {log} (op, key, after) SELECT 'baseline', {row}, {image}(r) FROM {table} AS r;
"
        )
    }

    fn sqlite_trigger(&self, act: &str) -> String {
        format!("{OURS}{}_{act}", self.table)
    }

    fn sqlite_script(&self, images: &[String]) -> String {
        let (log, table) = (self.log(), quoted(&self.table));
        let key = |row: &str| sqlite_key(row, &self.key);
        let image = |row: &str| sqlite_row(row, images);
        let changed = format!("{} IS NOT {}", key("OLD"), key("NEW"));
        let same = format!("{} IS {}", key("OLD"), key("NEW"));
        let inserted = format!(
            "INSERT INTO {log} (op, key, after) SELECT 'insert', {0}, {1} WHERE {0} IS NOT NULL;",
            key("NEW"),
            image("NEW")
        );
        let deleted = format!(
            "INSERT INTO {log} (op, key, before) SELECT 'delete', {0}, {1} WHERE {0} IS NOT NULL;",
            key("OLD"),
            image("OLD")
        );
        let updated = format!(
            "INSERT INTO {log} (op, key, before, after) SELECT 'update', {0}, {1}, {2} WHERE {0} IS NOT NULL;",
            key("NEW"),
            image("OLD"),
            image("NEW")
        );
        let mut script = format!(
            "-- The change log of {table}: a row for each change, written by triggers.
CREATE TABLE IF NOT EXISTS {log} (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  op TEXT NOT NULL, key TEXT NOT NULL, before TEXT, after TEXT);
"
        );
        let acts = [
            ("insert", "INSERT", String::new(), inserted.clone()),
            ("update", "UPDATE", format!(" WHEN {same}"), updated),
            ("rekey", "UPDATE", format!(" WHEN {changed}"), format!("{deleted} {inserted}")),
            ("delete", "DELETE", String::new(), deleted),
        ];
        for (act, on, when, body) in acts {
            let name = quoted(&self.sqlite_trigger(act));
            script += &format!(
                "DROP TRIGGER IF EXISTS {name};\nCREATE TRIGGER {name} AFTER {on} ON {table}{when} BEGIN\n  {body}\nEND;\n"
            );
        }
        script
            + &format!(
                "-- From here on: the table as it is now.
INSERT INTO {log} (op, key, after)
  SELECT 'baseline', key, NULL FROM (SELECT DISTINCT key FROM {log}) AS known
  WHERE key NOT IN (SELECT {0} FROM {table} AS r WHERE {0} IS NOT NULL);
INSERT INTO {log} (op, key, after) SELECT 'baseline', {0}, {1} FROM {table} AS r WHERE {0} IS NOT NULL;
",
                key("r"),
                image("r")
            )
    }
}

/// Writes a row's key as one text; NULL where one of its columns is, because SQLite takes many rows with such a key.
fn sqlite_key(row: &str, columns: &[String]) -> String {
    let is_null: Vec<String> = columns.iter().map(|column| format!("{row}.{} IS NULL", quoted(column))).collect();
    format!("CASE WHEN {} THEN NULL ELSE {} END", is_null.join(" OR "), sqlite_row(row, columns))
}

/// Writes the values of some columns as one text that no two different rows have.
fn sqlite_row(row: &str, columns: &[String]) -> String {
    let values: Vec<String> = columns.iter().map(|column| format!("quote({row}.{})", quoted(column))).collect();
    values.join(" || ',' || ")
}

/// Tells whether a name can't stand in a script: it would end the comment or the body that it stands in.
fn unfit(name: &str) -> bool {
    name.is_empty() || name.contains(char::is_control) || name.contains("$$")
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
