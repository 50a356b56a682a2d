//! The names of a connector's topics.

use cdc_model::units::TableName;

/// Kafka's longest name of a topic; a longer one is cut.
const LONGEST: usize = 249;

/// The only `topic.naming.strategy` whose topics [`TopicNames`] knows, and Debezium's default. `DefaultTopicNamingStrategy` joins
/// the prefix, the catalogue and the table, and PostgreSQL's tables have no catalogue: its topics lack the schema.
pub const NAMING_STRATEGY: &str = "io.debezium.schema.SchemaTopicNamingStrategy";

/// How a connector names its topics: `<prefix><delimiter><schema><delimiter><table>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicNames {
    /// `topic.prefix`.
    pub prefix: String,
    /// `topic.delimiter`.
    pub delimiter: String,
}

impl TopicNames {
    /// A table's topic: every character that Kafka does not allow becomes `_`, and so two tables may share one.
    pub fn topic(&self, table: &TableName) -> String {
        // Java's `trim` takes away what is not above the space. A part that is blank is left out with its delimiter.
        let is_blank = |part: &&&str| part.chars().all(|c| c <= ' ');
        let parts = [self.prefix.as_str(), table.schema.as_str(), table.name.as_str()];
        let parts: Vec<&str> = parts.iter().filter(|p| !is_blank(p)).copied().collect();
        let mut topic = sanitized(&parts.join(&self.delimiter));
        // All of it is ASCII now.
        topic.truncate(LONGEST);
        if topic == "." || topic == ".." { "_".repeat(topic.len()) } else { topic }
    }

    /// What the names of all topics of tables begin with.
    pub fn start(&self) -> String {
        sanitized(&format!("{}{}", self.prefix, self.delimiter))
    }

    /// Whether a topic that begins as these do is another connector's, whose names begin so too and go on.
    pub fn are_preceded_by(&self, other: &TopicNames, topic: &str) -> bool {
        let (own, start) = (self.start(), other.start());
        start.len() > own.len() && start.starts_with(&own) && topic.starts_with(&start)
    }

    /// The table that a topic is of, by its name; none where it can be divided in more than one way.
    pub fn table(&self, topic: &str) -> Option<TableName> {
        let (schema, table) = topic.strip_prefix(&self.start())?.split_once(self.delimiter.as_str())?;
        let one = !schema.is_empty() && !table.is_empty() && !table.contains(self.delimiter.as_str());
        one.then(|| TableName::new(schema, table))
    }
}

/// The connector looks at units of UTF-16: a character of two becomes two.
fn sanitized(name: &str) -> String {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.chars().map(|c| if fine(c) { c.to_string() } else { "_".repeat(c.len_utf16()) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn names(delimiter: &str) -> TopicNames {
        TopicNames { prefix: "shop".into(), delimiter: delimiter.into() }
    }

    #[rstest]
    #[case("My Schema", "Weird Table-1", "shop.My_Schema.Weird_Table-1")]
    #[case("public", "tä😀", "shop.public.t___")]
    #[case("public", " ", "shop.public")]
    fn what_kafka_does_not_allow_is_replaced(#[case] schema: &str, #[case] table: &str, #[case] topic: &str) {
        assert_eq!(names(".").topic(&TableName::new(schema, table)), topic);
    }

    #[test]
    fn a_name_that_is_too_long_is_cut() {
        assert_eq!(names(".").topic(&TableName::new("s".repeat(200), "t".repeat(200))).len(), 249);
    }

    proptest::proptest! {
        #[test]
        fn a_topic_is_named_as_kafka_allows(schema in ".{0,20}", table in ".{0,200}") {
            let topic = names(".").topic(&TableName::new(schema, table));
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
            proptest::prop_assert!(topic.len() <= LONGEST && topic.bytes().all(allowed));
        }
    }

    #[rstest]
    #[case::longer("_", "shop_eu", "_", "shop_eu_public_a", true)]
    #[case::longer_with_another_delimiter("_", "shop_eu", ".", "shop_eu.public.a", true)]
    #[case::own("_", "shop_eu", "_", "shop_public_a", false)]
    #[case::shorter("_", "sho", "_", "shop_public_a", false)]
    #[case::same("_", "shop", "_", "shop_public_a", false)]
    #[case::no_delimiter_between(".", "shop-eu", ".", "shop-eu.public.a", false)]
    fn a_longer_prefix_goes_before(
        #[case] delimiter: &str,
        #[case] prefix: &str,
        #[case] of_other: &str,
        #[case] topic: &str,
        #[case] expected: bool,
    ) {
        let other = TopicNames { prefix: prefix.into(), delimiter: of_other.into() };
        assert_eq!(names(delimiter).are_preceded_by(&other, topic), expected);
    }

    #[rstest]
    #[case(".", "shop.public.a", Some("public.a"))]
    #[case(".", "shop.public.a.b", None)]
    #[case(".", "other.public.a", None)]
    #[case(".", "shop.transaction", None)]
    #[case("-", "shop-public-a", Some("public.a"))]
    #[case("_", "shop_public_order_items", None)]
    fn a_topic_tells_its_table(#[case] delimiter: &str, #[case] topic: &str, #[case] table: Option<&str>) {
        assert_eq!(names(delimiter).table(topic).map(|t| t.to_string()).as_deref(), table);
    }
}
