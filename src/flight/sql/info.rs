//! `CommandGetSqlInfo`: what this server can do, as far as the protocol has codes for it.
//!
//! Drivers read these values unchecked, so every code has one, of the type that `FlightSql.proto` says.

use std::collections::BTreeMap;

use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{
    SqlInfo as I, SqlNullOrdering, SqlOuterJoinsSupportLevel, SqlSupportedCaseSensitivity, SqlSupportedTransaction,
    SqlSupportsConvert as C,
};

use super::super::ticket::TICKET_SECONDS;
use crate::error::{Error, Result};
use crate::names::{MAX_NAME_BYTES, MAX_SEGMENT_CHARS};
use crate::query::MAX_STATEMENT_BYTES;

/// The version of the Arrow format that messages are in.
const ARROW_VERSION: &str = "1.5";
/// Of a limit that there is not.
const NO_LIMIT: i64 = 0;

const KEYWORDS: [&str; 12] = [
    "ANTI", "ASOF", "DESCRIBE", "EXCLUDE", "EXPLAIN", "ILIKE", "MERGE", "QUALIFY", "SEMI", "SHOW", "TRUNCATE", "UNNEST",
];
const NUMERIC_FUNCTIONS: [&str; 22] = [
    "ABS", "ACOS", "ASIN", "ATAN", "ATAN2", "CEIL", "COS", "COT", "DEGREES", "EXP", "FLOOR", "LN", "LOG", "LOG10",
    "PI", "POWER", "RADIANS", "RANDOM", "ROUND", "SIGN", "SIN", "SQRT",
];
const STRING_FUNCTIONS: [&str; 20] = [
    "ASCII",
    "BTRIM",
    "CHR",
    "CONCAT",
    "CONCAT_WS",
    "INITCAP",
    "LEFT",
    "LENGTH",
    "LOWER",
    "LPAD",
    "LTRIM",
    "REPEAT",
    "REPLACE",
    "REVERSE",
    "RIGHT",
    "RPAD",
    "RTRIM",
    "STRPOS",
    "SUBSTR",
    "UPPER",
];
const SYSTEM_FUNCTIONS: [&str; 4] = ["ARROW_TYPEOF", "COALESCE", "NULLIF", "VERSION"];
const DATETIME_FUNCTIONS: [&str; 12] = [
    "CURRENT_DATE",
    "CURRENT_TIME",
    "DATE_BIN",
    "DATE_PART",
    "DATE_TRUNC",
    "EXTRACT",
    "FROM_UNIXTIME",
    "MAKE_DATE",
    "NOW",
    "TO_CHAR",
    "TO_DATE",
    "TO_TIMESTAMP",
];

/// All values by their codes.
///
/// # Errors
/// [`Kind::Internal`](crate::error::Kind::Internal) when they cannot be put together, which is a defect.
pub(super) fn sql_info() -> Result<SqlInfoData> {
    let mut info = SqlInfoDataBuilder::new();
    server(&mut info);
    names(&mut info);
    words(&mut info);
    features(&mut info);
    limits(&mut info);
    transactions(&mut info);
    info.build().map_err(|error| Error::internal("the server's properties cannot be put together").because(error))
}

fn server(info: &mut SqlInfoDataBuilder) {
    info.append(I::FlightSqlServerName, "pandas-db");
    info.append(I::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(I::FlightSqlServerArrowVersion, ARROW_VERSION);
    info.append(I::FlightSqlServerReadOnly, false);
    info.append(I::FlightSqlServerSql, true);
    info.append(I::FlightSqlServerSubstrait, false);
    info.append(I::FlightSqlServerSubstraitMinVersion, "");
    info.append(I::FlightSqlServerSubstraitMaxVersion, "");
    info.append(I::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    info.append(I::FlightSqlServerCancel, true);
    info.append(I::FlightSqlServerBulkIngestion, true);
    info.append(I::FlightSqlServerIngestTransactionsSupported, false);
    info.append(I::FlightSqlServerStatementTimeout, (TICKET_SECONDS * 1_000) as i32);
    info.append(I::FlightSqlServerTransactionTimeout, 0i32);
}

fn names(info: &mut SqlInfoDataBuilder) {
    info.append(I::SqlDdlCatalog, false);
    info.append(I::SqlDdlSchema, false);
    info.append(I::SqlDdlTable, true);
    info.append(I::SqlIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32);
    info.append(I::SqlIdentifierQuoteChar, "\"");
    info.append(I::SqlQuotedIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive as i32);
    info.append(I::SqlAllTablesAreSelectable, true);
    info.append(I::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i32);
    info.append(I::SqlSearchStringEscape, "\\");
    info.append(I::SqlExtraNameCharacters, "");
    info.append(I::SqlSchemaTerm, "schema");
    info.append(I::SqlProcedureTerm, "procedure");
    info.append(I::SqlCatalogTerm, "catalog");
    info.append(I::SqlCatalogAtStart, true);
    // Neither schemas nor catalogs can be named in procedure calls, indices or grants, of which there are none.
    info.append(I::SqlSchemasSupportedActions, 0i32);
    info.append(I::SqlCatalogsSupportedActions, 0i32);
}

fn words(info: &mut SqlInfoDataBuilder) {
    info.append(I::SqlKeywords, &KEYWORDS[..]);
    info.append(I::SqlNumericFunctions, &NUMERIC_FUNCTIONS[..]);
    info.append(I::SqlStringFunctions, &STRING_FUNCTIONS[..]);
    info.append(I::SqlSystemFunctions, &SYSTEM_FUNCTIONS[..]);
    info.append(I::SqlDatetimeFunctions, &DATETIME_FUNCTIONS[..]);
}

/// Sets of features are bits, of which the first, second and so on stand for what `FlightSql.proto` counts from 0.
fn bits(numbers: &[i32]) -> i32 {
    numbers.iter().fold(0, |set, number| set | (1 << number))
}

fn features(info: &mut SqlInfoDataBuilder) {
    for (code, supported) in [
        (I::SqlSupportsColumnAliasing, true),
        (I::SqlNullPlusNullIsNull, true),
        (I::SqlSupportsTableCorrelationNames, true),
        (I::SqlSupportsDifferentTableCorrelationNames, false),
        (I::SqlSupportsExpressionsInOrderBy, true),
        (I::SqlSupportsOrderByUnrelated, true),
        (I::SqlSupportsLikeEscapeClause, false),
        (I::SqlSupportsNonNullableColumns, true),
        (I::SqlSupportsIntegrityEnhancementFacility, false),
        (I::SqlSelectForUpdateSupported, false),
        (I::SqlStoredProceduresSupported, false),
        (I::SqlCorrelatedSubqueriesSupported, true),
        (I::SqlBatchUpdatesSupported, true),
        (I::SqlSavepointsSupported, false),
        (I::SqlNamedParametersSupported, false),
        (I::SqlLocatorsUpdateCopy, false),
        (I::SqlStoredFunctionsUsingCallSyntaxSupported, false),
    ] {
        info.append(code, supported);
    }
    info.append(I::SqlSupportedGroupBy, bits(&[0, 1]));
    info.append(I::SqlSupportedGrammar, bits(&[0, 1]));
    info.append(I::SqlAnsi92SupportedLevel, bits(&[0]));
    info.append(I::SqlOuterJoinsSupportLevel, SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32);
    info.append(I::SqlSupportedPositionedCommands, 0i32);
    // In comparisons, EXISTS and IN.
    info.append(I::SqlSupportedSubqueries, bits(&[0, 1, 2]));
    info.append(I::SqlSupportedUnions, bits(&[0, 1]));
    info.append(I::SqlSupportsConvert, conversions());
}

/// Numbers, text, dates and times convert into one another as `CAST` does it.
fn conversions() -> BTreeMap<i32, Vec<i32>> {
    let numbers = [C::SqlConvertTinyint, C::SqlConvertSmallint, C::SqlConvertInteger, C::SqlConvertBigint].as_slice();
    let fractions = [C::SqlConvertReal, C::SqlConvertFloat, C::SqlConvertDecimal, C::SqlConvertNumeric].as_slice();
    let texts = [C::SqlConvertChar, C::SqlConvertVarchar].as_slice();
    let instants = [C::SqlConvertDate, C::SqlConvertTimestamp].as_slice();
    let codes = |groups: &[&[C]]| groups.iter().flat_map(|group| group.iter()).map(|code| *code as i32).collect();
    let mut map = BTreeMap::new();
    for from in numbers.iter().chain(fractions) {
        map.insert(*from as i32, codes(&[numbers, fractions, texts]));
    }
    for from in texts {
        map.insert(*from as i32, codes(&[numbers, fractions, texts, instants, &[C::SqlConvertBit, C::SqlConvertTime]]));
    }
    for from in instants {
        map.insert(*from as i32, codes(&[texts, instants]));
    }
    map.insert(C::SqlConvertBit as i32, codes(&[numbers, texts, &[C::SqlConvertBit]]));
    map.insert(C::SqlConvertTime as i32, codes(&[texts, &[C::SqlConvertTime]]));
    map
}

fn limits(info: &mut SqlInfoDataBuilder) {
    for (code, limit) in [
        (I::SqlMaxBinaryLiteralLength, MAX_STATEMENT_BYTES as i64),
        (I::SqlMaxCharLiteralLength, MAX_STATEMENT_BYTES as i64),
        (I::SqlMaxColumnNameLength, 1_024),
        (I::SqlMaxColumnsInGroupBy, NO_LIMIT),
        (I::SqlMaxColumnsInIndex, NO_LIMIT),
        (I::SqlMaxColumnsInOrderBy, NO_LIMIT),
        (I::SqlMaxColumnsInSelect, NO_LIMIT),
        (I::SqlMaxColumnsInTable, 4_096),
        (I::SqlMaxConnections, NO_LIMIT),
        (I::SqlMaxCursorNameLength, NO_LIMIT),
        (I::SqlMaxIndexLength, NO_LIMIT),
        (I::SqlDbSchemaNameLength, MAX_NAME_BYTES as i64),
        (I::SqlMaxProcedureNameLength, NO_LIMIT),
        (I::SqlMaxCatalogNameLength, NO_LIMIT),
        (I::SqlMaxRowSize, NO_LIMIT),
        (I::SqlMaxStatementLength, MAX_STATEMENT_BYTES as i64),
        (I::SqlMaxStatements, NO_LIMIT),
        (I::SqlMaxTableNameLength, MAX_SEGMENT_CHARS as i64),
        (I::SqlMaxTablesInSelect, NO_LIMIT),
        (I::SqlMaxUsernameLength, NO_LIMIT),
    ] {
        info.append(code, limit);
    }
    info.append(I::SqlMaxRowSizeIncludesBlobs, true);
}

fn transactions(info: &mut SqlInfoDataBuilder) {
    // Each statement by itself sees one state and is atomic; there are no transactions over several.
    info.append(I::SqlDefaultTransactionIsolation, 0i32);
    info.append(I::SqlTransactionsSupported, false);
    info.append(I::SqlSupportedTransactionsIsolationLevels, bits(&[0]));
    info.append(I::SqlDataDefinitionCausesTransactionCommit, true);
    info.append(I::SqlDataDefinitionsInTransactionsIgnored, false);
    // Results are read once, from first to last.
    info.append(I::SqlSupportedResultSetTypes, bits(&[1]));
    info.append(I::SqlSupportedConcurrenciesForResultSetUnspecified, bits(&[1]));
    info.append(I::SqlSupportedConcurrenciesForResultSetForwardOnly, bits(&[1]));
    info.append(I::SqlSupportedConcurrenciesForResultSetScrollSensitive, 0i32);
    info.append(I::SqlSupportedConcurrenciesForResultSetScrollInsensitive, 0i32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_protocol_has_a_value() {
        let codes = (0..=11).chain([100, 101]).chain(500..=576);
        let told = sql_info().unwrap();
        for code in codes {
            assert_eq!(told.record_batch([code]).unwrap().num_rows(), 1, "{code}");
        }
    }
}
