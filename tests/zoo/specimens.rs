//! The types that can stand in a column, each with values at its edges. Values that differ least stand side by side: a
//! change that is not published turns one into the next.

/// A declaration and its values.
pub struct Specimen {
    /// The column's name.
    pub column: &'static str,
    /// How the column is declared.
    pub sql: &'static str,
    /// Literals, or expressions after `=`. No two neighbours are equal; NULL stands behind the last.
    pub values: &'static [&'static str],
}

const fn of(column: &'static str, sql: &'static str, values: &'static [&'static str]) -> Specimen {
    Specimen { column, sql, values }
}

/// Extensions of the server that define types, and those that they need.
pub const EXTENSIONS: [&str; 12] = [
    "hstore",
    "citext",
    "ltree",
    "cube",
    "seg",
    "isn",
    "intarray",
    "vector",
    "pg_trgm",
    "btree_gist",
    "lo",
    "earthdistance",
];

/// The zoo's own types, and tables from which values come that have no literal.
pub const TYPES: &str = r#"
create type mood as enum ('sad', 'with space', 'quo"te', 'a,b', 'ünï😀');
create type comp as (a int, b text, c numeric[]);
create type floatrange as range (subtype = float8);
create domain d_int as int check (value > -1000);
create domain d_numeric as numeric(10, 2);
create domain d_money as d_numeric check (value <> 13);
create domain d_text as varchar(20);
create domain d_ts as timestamp(3);
create domain d_bytes as bytea;
create domain d_bits as bit(8);
create domain d_ints as int[];
create domain d_ints2 as d_ints;
create domain d_comp as comp;
create table source (a int default 1, b text default 'x');
create table stats as select g % 10 as a, g % 10 as b from generate_series(1, 1000) g;
create statistics stats_one on a, b from stats;
create table stats2 as select g % 20 as a, g % 10 as b from generate_series(1, 1000) g;
create statistics stats_two on a, b from stats2;
analyze stats, stats2;
-- The server may have been built without XML, whose values are then only stored and printed.
create table markup (n int, v text);
insert into markup values (1, '<a/>'), (2, '<a></a>'), (3, ''), (4, '<a b="&lt;">ünï😀 ''" \ </a>');
update pg_attribute set atttypid = 'xml'::regtype where attrelid = 'markup'::regclass and attname = 'v';
"#;

/// All of them. A type of the catalogue that is missing here is missing in [`WITHOUT_VALUES`] too, or the zoo is not complete.
#[rustfmt::skip]
pub const SPECIMENS: &[Specimen] = &[
    of("bool", "boolean", &["true", "false"]),
    of("int2", "smallint", &["-32768", "-32767", "32767", "0"]),
    of("int4", "integer", &["-2147483648", "-2147483647", "2147483647", "0"]),
    of("int8", "bigint", &["-9223372036854775808", "-9223372036854775807", "9223372036854775807", "9223372036854775806",
        "9007199254740992", "9007199254740993", "0"]),
    of("float4", "real", &["NaN", "Infinity", "-Infinity", "-0", "0.1", "1.1", "1.1000001", "3.4028235e38", "1e-45", "16777216", "1e20", "123456.7", "1234567"]),
    of("float8", "double precision", &["NaN", "Infinity", "-Infinity", "-0", "0.1", "0.3", "0.30000000000000004", "0.9999999999999999", "1",
        "1.7976931348623157e308", "5e-324", "1e15", "1e22", "123456789012345680", "1.5777777777770001"]),
    of("numeric", "numeric", &["NaN", "Infinity", "-Infinity", "0", "0.10", "-0.1", "1.000000000000000000001", "1.000000000000000000002", "=1e400::numeric",
        "=1e400::numeric + 1", "=1e-300::numeric", "12345678901234567890.123456789", "100000", "-99999999999999999999999999999999999999"]),
    of("numeric_10_2", "numeric(10,2)", &["0.00", "0.01", "-0.01", "99999999.99", "99999999.98", "NaN"]),
    of("numeric_38_0", "numeric(38)", &["0", "99999999999999999999999999999999999999", "99999999999999999999999999999999999998", "-1"]),
    of("numeric_5_m2", "numeric(5,-2)", &["12300", "12400", "-9999900", "0"]),
    of("numeric_3_5", "numeric(3,5)", &["0.00999", "0.00998", "0"]),
    of("money", "money", &["0.01", "-0.01", "92233720368547758.07", "92233720368547758.06", "-92233720368547758.08", "1234.56"]),
    of("text", "text", &["", " ", "NULL", "null", "\\N", "quo'te \"x\" \\ {a,b} (c)", "tab\tnewline\nreturn\r", "ünï 😀 e\u{301}", "ünï 😀 é", "AP8Qqw==", "0", "__debezium"]),
    of("varchar_20", "varchar(20)", &["", "a", "a ", "😀"]),
    of("char_10", "char(10)", &["", "a", "😀 b"]),
    of("char", "\"char\"", &["a", "", "\"", "\\351"]),
    of("name", "name", &["", "a", "ünï 😀", "x23456789012345678901234567890123456789012345678901234567890123"]),
    of("bytea", "bytea", &["\\x", "\\x00", "\\x00ff10ab", "\\x00ff10ac", "\\x616263", "\\x595749", "\\xf09f9880"]),
    of("bit_1", "bit(1)", &["0", "1"]),
    of("bit_8", "bit(8)", &["00000000", "00000001", "10100001", "11111111"]),
    of("bit_70", "bit(70)", &["1010101010101010101010101010101010101010101010101010101010101010101010",
        "0010101010101010101010101010101010101010101010101010101010101010101010",
        "0000000000000000000000000000000000000000000000000000000000000000000000"]),
    of("varbit", "bit varying", &["", "1", "10", "1000000000000001", "101"]),
    of("varbit_20", "bit varying(20)", &["", "1", "10", "10100001", "11111111111111111111"]),
    of("varbit_1", "bit varying(1)", &["", "1", "0"]),
    of("date", "date", &["2024-02-29", "2024-03-01", "infinity", "-infinity", "0044-03-15 BC", "4713-11-24 BC", "5874897-12-31", "5874897-12-30",
        "10000-01-01", "1582-10-10", "1582-10-04", "0001-01-01", "0001-12-31 BC", "1970-01-01", "1969-12-31", "9999-12-31"]),
    of("time", "time", &["00:00:00", "23:59:59.999999", "12:34:56.123456", "12:34:56.123457", "24:00:00", "12:34:56.789"]),
    of("time_3", "time(3)", &["00:00:00", "24:00:00", "12:34:56.79", "12:34:56.789"]),
    of("time_0", "time(0)", &["00:00:00", "24:00:00", "12:34:56"]),
    of("timetz", "timetz", &["00:00:00+00", "12:34:56.123456+05:30", "12:34:56.123457+05:30", "23:59:59.999999-15:59", "12:00:00+02", "24:00:00+01", "00:00:01.5-01"]),
    of("timestamp", "timestamp", &["2024-02-29 12:34:56.123456", "2024-02-29 12:34:56.123457", "infinity", "-infinity", "294276-12-31 23:59:59.999999",
        "4713-11-24 00:00:00 BC", "0044-03-15 12:00:00 BC", "0001-01-01 00:00:00", "1582-10-10 00:00:00", "1677-09-21 00:12:43.145225", "2262-04-11 23:47:16.854775",
        "1969-12-31 23:59:59.999999", "1970-01-01 00:00:00", "2024-03-31 02:30:00", "10000-01-01 00:00:00", "1883-11-18 12:03:57"]),
    of("timestamp_3", "timestamp(3)", &["2024-02-29 12:34:56.123", "2024-02-29 12:34:56.124", "infinity", "-infinity", "294276-12-31 23:59:59.999", "0044-03-15 12:00:00 BC"]),
    of("timestamp_0", "timestamp(0)", &["2024-02-29 12:34:56", "2024-02-29 12:34:57", "infinity", "10000-01-01 00:00:00"]),
    of("timestamptz", "timestamptz", &["2024-02-29 12:34:56.123456+02", "2024-02-29 12:34:56.123457+02", "infinity", "-infinity", "294276-12-31 23:59:59.999999+00",
        "4713-11-24 00:00:00+00 BC", "0044-03-15 12:00:00+00 BC", "0001-01-01 00:00:00+00", "1582-10-10 00:00:00+00", "2024-10-27 02:30:00+02", "2024-10-27 02:30:00+01",
        "1969-12-31 23:59:59.999999+00", "10000-01-01 00:00:00+00", "1883-11-18 12:03:57-07:52:58"]),
    of("timestamptz_3", "timestamptz(3)", &["2024-02-29 12:34:56.123+02", "2024-02-29 12:34:56.124+02", "infinity"]),
    of("interval", "interval", &["1 year 2 mons -3 days +04:05:06.789", "1 year 2 mons -3 days +04:05:06.788", "00:00:00", "00:00:00.000001", "-1 mons +2 days -00:00:00.000001",
        "178000000 years", "-178000000 years", "25:00:00", "1 day 25:00:00", "infinity", "-infinity"]),
    of("interval_ds", "interval day to second(3)", &["3 days 04:05:06.789", "-3 days +04:05:06.789", "00:00:00"]),
    of("interval_ym", "interval year to month", &["1 year 2 mons", "-1 years +2 mons", "0"]),
    of("uuid", "uuid", &["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "ffffffff-ffff-ffff-ffff-fffffffffffe"]),
    of("json", "json", &["{\"a\":1}", "{\"a\": 1}", "{\"a\":1,\"a\":2}", "\"😀\\ud83d\\ude00\\u0000\"", "null", "[]", "12345678901234567890.10", " 1 ", "\"x\""]),
    of("jsonb", "jsonb", &["{\"a\": 1, \"b\": [1.10, null]}", "{\"a\": 1, \"b\": [1.11, null]}", "\"😀 \\\" \\\\ \"", "null", "[]", "12345678901234567890.10", "\"x\"", "{}"]),
    of("jsonpath", "jsonpath", &["$.a", "$.\"b c\"[*] ? (@ > 1)"]),
    of("xml", "xml", &["=(select v from markup where n = 1)", "=(select v from markup where n = 2)", "=(select v from markup where n = 3)", "=(select v from markup where n = 4)"]),
    of("inet", "inet", &["192.168.0.1", "192.168.0.1/24", "192.168.0.2/24", "::1", "2001:db8::ff00:42:8329/64", "::ffff:1.2.3.4"]),
    of("cidr", "cidr", &["10.0.0.0/8", "10.0.0.0/9", "192.168.0.1/32", "2001:db8::/32"]),
    of("macaddr", "macaddr", &["08:00:2b:01:02:03", "08:00:2b:01:02:04"]),
    of("macaddr8", "macaddr8", &["08:00:2b:01:02:03:04:05", "08:00:2b:01:02:03:04:06"]),
    of("tsvector", "tsvector", &["", "'a' 'b':1A,2", "'a' 'b':1A,3", "'it''s' '\\\\ \"' 'ünï😀'"]),
    of("tsquery", "tsquery", &["", "a & !b | (c <-> d)", "a & !b | (c <2> d)", "'it''s':*AB"]),
    of("int4range", "int4range", &["empty", "[1,5)", "[1,6)", "(,)", "[1,)", "(,5)"]),
    of("int8range", "int8range", &["empty", "[1,9223372036854775807)", "[1,9223372036854775806)", "(,)"]),
    of("numrange", "numrange", &["empty", "[1.10,2.5]", "[1.10,2.5)", "(1.1,2.50)", "[NaN,NaN]", "(,1e30)"]),
    of("daterange", "daterange", &["empty", "[2024-02-29,2024-03-01)", "[2024-02-29,2024-03-02)", "(-infinity,infinity)", "[0044-03-15 BC,10000-01-01)"]),
    of("tsrange", "tsrange", &["empty", "[2024-02-29 12:34:56.123456,)", "[2024-02-29 12:34:56.123457,)", "(-infinity,infinity)", "[0044-03-15 12:00:00 BC,10000-01-01 00:00:00]"]),
    of("tstzrange", "tstzrange", &["empty", "[2024-02-29 12:34:56.123456+02,)", "[2024-02-29 12:34:56.123457+02,)", "(-infinity,infinity)"]),
    of("floatrange", "floatrange", &["empty", "[0.1,0.3)", "[0.1,0.30000000000000004)", "(-Infinity,NaN]"]),
    of("int4multirange", "int4multirange", &["{}", "{[1,2),[5,6)}", "{[1,2),[5,7)}", "{(,)}"]),
    of("int8multirange", "int8multirange", &["{}", "{[1,2),[5,6)}", "{[1,2),[5,7)}"]),
    of("nummultirange", "nummultirange", &["{}", "{[1.10,2.5]}", "{[1.10,2.5)}"]),
    of("datemultirange", "datemultirange", &["{}", "{[2024-02-29,2024-03-01)}", "{[2024-02-29,2024-03-02)}"]),
    of("tsmultirange", "tsmultirange", &["{}", "{[\"2024-02-29 12:34:56\",infinity)}", "{[\"2024-02-29 12:34:57\",infinity)}"]),
    of("tstzmultirange", "tstzmultirange", &["{}", "{[\"2024-02-29 12:34:56+02\",infinity)}", "{[\"2024-02-29 12:34:57+02\",infinity)}"]),
    of("floatmultirange", "floatmultirange", &["{}", "{[0.1,0.3)}", "{[0.1,0.30000000000000004)}"]),
    of("point", "point", &["(0,0)", "(-0,1.5)", "(1e300,-1e-300)", "(Infinity,NaN)", "(0.1,0.3)", "(0.1,0.30000000000000004)", "(1,123456789012345680)"]),
    of("line", "line", &["{1,-1,0}", "{0,1,-0.1}", "{1e300,5e-324,0.30000000000000004}"]),
    of("lseg", "lseg", &["[(0,0),(1,1.5)]", "[(0,0),(1,1.25)]", "[(Infinity,NaN),(1e300,-0)]"]),
    of("box", "box", &["(1,1.5),(0,0)", "(1,1.25),(0,0)", "(1e300,0.1),(5e-324,-0.1)"]),
    of("path", "path", &["((0,0),(1,1.5))", "[(0,0),(1,1.5)]", "[(0,0),(1,1.25)]"]),
    of("polygon", "polygon", &["((0,0),(1,1.5),(2,0))", "((0,0),(1,1.25),(2,0))"]),
    of("circle", "circle", &["<(1,2),3>", "<(1,2),3.5>", "<(0.1,1e300),0>"]),
    of("oid", "oid", &["0", "4294967295", "4294967294"]),
    of("xid", "xid", &["0", "4294967295"]),
    of("xid8", "xid8", &["0", "18446744073709551615"]),
    of("cid", "cid", &["0", "4294967295"]),
    of("tid", "tid", &["(0,1)", "(4294967295,65535)"]),
    of("pg_lsn", "pg_lsn", &["0/0", "FFFFFFFF/FFFFFFFF", "16/B374D848"]),
    of("txid_snapshot", "txid_snapshot", &["10:20:10,14,15", "10:20:"]),
    of("pg_snapshot", "pg_snapshot", &["10:20:10,14,15", "10:20:"]),
    of("regclass", "regclass", &["pg_class", "pg_type", "-"]),
    of("regcollation", "regcollation", &["\"C\"", "\"POSIX\""]),
    of("regconfig", "regconfig", &["english", "simple"]),
    of("regdictionary", "regdictionary", &["simple", "english_stem"]),
    of("regnamespace", "regnamespace", &["pg_catalog", "public"]),
    of("regoper", "regoper", &["|/", "||/"]),
    of("regoperator", "regoperator", &["+(integer,integer)", "-(integer,integer)"]),
    of("regproc", "regproc", &["now", "pi"]),
    of("regprocedure", "regprocedure", &["abs(integer)", "abs(bigint)"]),
    of("regrole", "regrole", &["postgres", "pg_monitor"]),
    of("regtype", "regtype", &["integer", "text[]", "timestamp with time zone"]),
    of("aclitem", "aclitem", &["postgres=r/postgres", "='=w/postgres'"]),
    of("int2vector", "int2vector", &["", "1 2 3", "1 2 4"]),
    of("oidvector", "oidvector", &["", "1 2 4294967295", "1 2 4294967294"]),
    of("pg_node_tree", "pg_node_tree", &["=(select adbin from pg_attrdef where adrelid = 'source'::regclass and adnum = 1)",
        "=(select adbin from pg_attrdef where adrelid = 'source'::regclass and adnum = 2)"]),
    of("pg_ndistinct", "pg_ndistinct", &["=(select stxdndistinct from pg_statistic_ext_data where stxoid = (select oid from pg_statistic_ext where stxname = 'stats_one'))",
        "=(select stxdndistinct from pg_statistic_ext_data where stxoid = (select oid from pg_statistic_ext where stxname = 'stats_two'))"]),
    of("pg_dependencies", "pg_dependencies", &["=(select stxddependencies from pg_statistic_ext_data where stxoid = (select oid from pg_statistic_ext where stxname = 'stats_one'))",
        "=(select stxddependencies from pg_statistic_ext_data where stxoid = (select oid from pg_statistic_ext where stxname = 'stats_two'))"]),
    of("pg_mcv_list", "pg_mcv_list", &["=(select stxdmcv from pg_statistic_ext_data where stxoid = (select oid from pg_statistic_ext where stxname = 'stats_one'))",
        "=(select stxdmcv from pg_statistic_ext_data where stxoid = (select oid from pg_statistic_ext where stxname = 'stats_two'))"]),
    of("mood", "mood", &["sad", "with space", "quo\"te", "a,b", "ünï😀"]),
    of("comp", "comp", &["(1,\"a b\",\"{1.10,NULL}\")", "(1,\"a b\",\"{1.11,NULL}\")", "(,,)", "(1,\"\",{})"]),
    of("d_int", "d_int", &["1", "2", "2147483647"]),
    of("d_numeric", "d_numeric", &["0.01", "0.02", "-99999999.99"]),
    of("d_money", "d_money", &["0.01", "0.02"]),
    of("d_text", "d_text", &["", "a", "ünï😀"]),
    of("d_ts", "d_ts", &["2024-02-29 12:34:56.123", "2024-02-29 12:34:56.124", "infinity"]),
    of("d_bytes", "d_bytes", &["\\x", "\\x00ff", "\\x00fe"]),
    of("d_bits", "d_bits", &["00000001", "10000000"]),
    of("d_ints", "d_ints", &["{}", "{1,NULL,3}", "{1,NULL,4}"]),
    of("d_ints2", "d_ints2", &["{1,2}", "{1,3}"]),
    of("d_comp", "d_comp", &["(1,a,)", "(2,a,)"]),
    of("cardinal_number", "information_schema.cardinal_number", &["0", "2147483647"]),
    of("character_data", "information_schema.character_data", &["", "a"]),
    of("sql_identifier", "information_schema.sql_identifier", &["a", "b"]),
    of("yes_or_no", "information_schema.yes_or_no", &["YES", "NO"]),
    of("time_stamp", "information_schema.time_stamp", &["2024-02-29 12:34:56.12+02", "2024-02-29 12:34:56.13+02"]),
    of("hstore", "hstore", &["", "a=>1", "a=>NULL", "\"c d\"=>\"x\\\"y \\\\ \", bb=>ünï😀, ünï=>1, z=>\"\"", "\"c d\"=>\"x\\\"y \\\\ \", bb=>ünï😀, ünï=>2, z=>\"\""]),
    of("citext", "citext", &["Abc", "abd", "", "ünï😀"]),
    of("ltree", "ltree", &["", "a.b.c", "a.b.d"]),
    of("lquery", "lquery", &["*{1,2}.a|b", "*{1,3}.a|b"]),
    of("ltxtquery", "ltxtquery", &["a & b*", "a | b*"]),
    of("cube", "cube", &["(1,2),(3,4)", "(1,2),(3,5)", "(0.1)", "(0.30000000000000004)"]),
    of("earth", "earth", &["(6378168,0,0)", "(0,6378168,0)"]),
    of("seg", "seg", &["1.5", "~1.50", "<2", "1 .. 2"]),
    of("ean13", "ean13", &["220-500896101-0", "978-0-393-04002-9"]),
    of("isbn13", "isbn13", &["978-0-393-04002-9", "978-3-16-148410-0"]),
    of("isbn", "isbn", &["0-393-04002-X", "3-16-148410-X"]),
    of("ismn13", "ismn13", &["979-0-060-11561-5", "979-0-2306-7118-7"]),
    of("ismn", "ismn", &["M-060-11561-5", "M-2306-7118-7"]),
    of("issn13", "issn13", &["977-1436-452-00-8", "977-0317-847-00-1"]),
    of("issn", "issn", &["1436-4522", "0317-8471"]),
    of("upc", "upc", &["220356483481", "036000291452"]),
    of("query_int", "query_int", &["1&2|!3", "1&2|!4"]),
    of("vector_3", "vector(3)", &["[1,2.5,0.1]", "[1,2.5,0.10000001]", "[1e-10,3e38,-0]"]),
    of("vector", "vector", &["[1,2.5]", "[1,2.25]"]),
    of("halfvec", "halfvec", &["[1,2.5]", "[0.1,65504]", "[6e-8,1]"]),
    of("sparsevec", "sparsevec", &["{1:1,3:2.5}/5", "{1:1,3:2.25}/5"]),
    of("lo", "lo", &["0", "4294967295"]),
];

/// Types that can stand in a column and take no value from anybody but the server itself.
#[rustfmt::skip]
pub const WITHOUT_VALUES: &[&str] = &[
    "gtsvector", "ghstore", "gtrgm", "gbtreekey2", "gbtreekey4", "gbtreekey8", "gbtreekey16", "gbtreekey32", "gbtreekey_var", "intbig_gkey", "ltree_gist",
    "pg_brin_bloom_summary", "pg_brin_minmax_multi_summary", "refcursor",
];

/// Values, or whole types where there are none, with which a column that may not be NULL ends the connector: it has NULL for them and
/// refuses its own record.
pub const FATAL_WHEN_REQUIRED: &[(&str, &[&str])] = &[
    ("numeric", &["NaN", "Infinity", "-Infinity"]),
    ("numeric_10_2", &["NaN"]),
    ("varbit_1", &[]),
    ("sparsevec", &[]),
    ("int2vector", &[]),
    ("oidvector", &[]),
];

/// The same where times are counted in nanoseconds. For a value that the WAL does not hold, as of a deleted row, a column that may
/// not be NULL has a stand-in in every other mode.
pub const FATAL_IN_NANOSECONDS: &[(&str, &[&str])] =
    &[("timestamp", &[]), ("timestamp_3", &[]), ("timestamp_0", &[]), ("d_ts", &[])];

/// Values, or whole types, that are something else in a record: in a key the row is then not found by whoever looks for it, which
/// `verify` calls lost and ghost.
pub const ANOTHER_IN_KEYS: &[(&str, &[&str])] = &[
    ("name", &[]),
    ("sql_identifier", &[]),
    ("date", &["0044-03-15 BC", "4713-11-24 BC", "1582-10-10", "1582-10-04", "0001-01-01", "0001-12-31 BC"]),
    (
        "timestamp",
        &[
            "294276-12-31 23:59:59.999999",
            "4713-11-24 00:00:00 BC",
            "0044-03-15 12:00:00 BC",
            "0001-01-01 00:00:00",
            "1582-10-10 00:00:00",
            "10000-01-01 00:00:00",
        ],
    ),
    ("timestamp_3", &["294276-12-31 23:59:59.999", "0044-03-15 12:00:00 BC"]),
    ("timestamp_0", &["10000-01-01 00:00:00"]),
    ("interval", &["infinity", "-infinity"]),
];
