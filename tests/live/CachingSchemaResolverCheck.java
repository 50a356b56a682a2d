import java.lang.reflect.Proxy;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

import cdc.drill.CachingSchemaResolver;
import io.apicurio.registry.resolver.DefaultSchemaResolver;
import io.apicurio.registry.resolver.ParsedSchema;
import io.apicurio.registry.resolver.SchemaLookupResult;
import io.apicurio.registry.resolver.SchemaResolver;
import io.apicurio.registry.resolver.data.Record;
import io.apicurio.registry.rest.client.RegistryClient;
import io.apicurio.registry.rest.v2.beans.ArtifactMetaData;
import io.apicurio.registry.serde.avro.AvroSchemaParser;
import io.apicurio.registry.serde.avro.DefaultAvroDatumProvider;
import io.apicurio.registry.serde.data.KafkaSerdeMetadata;
import io.apicurio.registry.serde.data.KafkaSerdeRecord;
import org.apache.avro.Schema;
import org.apache.avro.SchemaBuilder;
import org.apache.avro.generic.GenericData;

/** Asks Apicurio's resolver and ours the same, in front of a registry that gives a new id to every registration. */
public final class CachingSchemaResolverCheck {
    private static final String TOPIC_NAMES = "io.apicurio.registry.serde.strategy.TopicIdStrategy";
    private static final String RECORD_NAMES = "io.apicurio.registry.serde.avro.strategy.RecordIdStrategy";

    private static final class Asked<R extends SchemaResolver<Schema, Object>> {
        final R resolver;
        /** The artifacts that were registered, in order. */
        final List<String> registered = new ArrayList<>();
        /** How many schemas were written as text. */
        int written;
        boolean refuses;

        Asked(R resolver, long period, String names) {
            this.resolver = resolver;
            resolver.setClient((RegistryClient) Proxy.newProxyInstance(
                    CachingSchemaResolverCheck.class.getClassLoader(),
                    new Class<?>[] {RegistryClient.class},
                    (proxy, method, arguments) -> {
                        if (!method.getName().equals("createArtifact")) {
                            throw new UnsupportedOperationException(method.toString());
                        }
                        if (refuses) {
                            throw new IllegalStateException("refused");
                        }
                        registered.add((String) arguments[1]);
                        ArtifactMetaData made = new ArtifactMetaData();
                        made.setId((String) arguments[1]);
                        made.setGlobalId((long) registered.size());
                        made.setContentId((long) registered.size());
                        made.setVersion("1");
                        return made;
                    }));
            Map<String, Object> settings = new HashMap<>();
            settings.put("apicurio.registry.url", "http://nobody");
            settings.put("apicurio.registry.auto-register", "true");
            settings.put("apicurio.registry.check-period-ms", period);
            settings.put("apicurio.registry.artifact-resolver-strategy", names);
            resolver.configure(settings, new AvroSchemaParser<>(new DefaultAvroDatumProvider<>()) {
                @Override
                public ParsedSchema<Schema> getSchemaFromData(Record<Object> data, boolean dereference) {
                    written++;
                    return super.getSchemaFromData(data, dereference);
                }
            });
        }

        SchemaLookupResult<Schema> ask(String topic, boolean isKey, Schema schema) {
            return resolver.resolveSchema(
                    new KafkaSerdeRecord<>(new KafkaSerdeMetadata(topic, isKey, null), new GenericData.Record(schema)));
        }

        long id(String topic, Schema schema) {
            return ask(topic, false, schema).getContentId();
        }
    }

    private static Asked<CachingSchemaResolver<Object>> ours(long period, String names) {
        return new Asked<>(new CachingSchemaResolver<>(), period, names);
    }

    private static Schema record(String name, String... fields) {
        SchemaBuilder.FieldAssembler<Schema> made = SchemaBuilder.record(name).namespace("x").fields();
        for (String field : fields) {
            made = made.requiredString(field);
        }
        return made.endRecord();
    }

    private static void equal(Object wanted, Object found, String what) {
        if (!wanted.equals(found)) {
            throw new AssertionError(what + ": expected " + wanted + ", found " + found);
        }
    }

    public static void main(String[] arguments) throws Exception {
        long forever = 24L * 3600 * 1000;
        Schema first = record("Row", "a");
        Schema changed = record("Row", "a", "b");

        var asked = ours(forever, TOPIC_NAMES);
        SchemaLookupResult<Schema> answer = asked.ask("t", false, first);
        equal(true, answer == asked.ask("t", false, first), "the same schema object has the same answer");
        equal(1, asked.written, "schemas written as text for two records of one schema");
        equal(2L, asked.id("t", changed), "a changed schema is registered anew");
        equal(1L, asked.id("t", first), "and the earlier one keeps its id");
        equal(List.of("t-value", "t-value"), asked.registered, "each was registered once");
        // What Apicurio's own cache says of a second topic with the same text, ours says too.
        var original = new Asked<>(new DefaultSchemaResolver<Schema, Object>(), forever, TOPIC_NAMES);
        original.id("t", first);
        equal(original.id("u", first), asked.id("u", first), "another topic with the same schema");
        equal(original.ask("t", true, first).getContentId(), asked.ask("t", true, first).getContentId(), "its key");
        asked.resolver.reset();
        equal(3L, asked.id("t", first), "a reset forgets");

        // Without a period nothing is kept; with one that has passed, the registry is asked, whoever asked first.
        asked = ours(0, TOPIC_NAMES);
        equal(1L, asked.id("t", first), "the first id");
        Thread.sleep(2);
        equal(2L, asked.id("t", first), "an answer that is too old is asked for anew");

        // An answer is as old as Apicurio's cache has had it, whichever schema object led to it first.
        long period = 400;
        asked = ours(period, TOPIC_NAMES);
        long began = System.nanoTime();
        equal(1L, asked.id("t", first), "the first id");
        while (System.nanoTime() - began < (period - 50) * 1_000_000) {
            Thread.sleep(1);
        }
        Schema again = record("Row", "a");
        boolean joined = asked.id("t", again) == 1L;
        while (System.nanoTime() - began < (period + 50) * 1_000_000) {
            Thread.sleep(1);
        }
        // On a machine that paused meanwhile the second schema object was late already, and has an answer of its own.
        if (joined) {
            equal(2L, asked.id("t", again), "a later schema object does not lengthen an answer's life");
        }

        asked = ours(0, TOPIC_NAMES);
        asked.id("t", first);
        asked.refuses = true;
        Thread.sleep(2);
        try {
            asked.id("t", first);
            throw new AssertionError("a refusal was not passed on");
        } catch (IllegalStateException refused) {
            equal("refused", refused.getMessage(), "the refusal");
        }

        // Names that depend on the record are left to Apicurio.
        asked = ours(forever, RECORD_NAMES);
        answer = asked.ask("t", false, first);
        equal("Row", answer.getArtifactId(), "a name by record");
        equal(0, answers(asked.resolver), "what depends on more than the topic is not kept here");

        asked = ours(forever, TOPIC_NAMES);
        for (int n = 0; n < 2500; n++) {
            asked.id("t", record("Row" + n, "a"));
            if (answers(asked.resolver) > 1000) {
                throw new AssertionError("the cache grows without bound");
            }
        }
    }

    private static int answers(CachingSchemaResolver<Object> resolver) throws Exception {
        var field = CachingSchemaResolver.class.getDeclaredField("answers");
        field.setAccessible(true);
        return ((Map<?, ?>) field.get(resolver)).size();
    }
}
