import java.time.Duration;
import java.util.Arrays;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Compares two topics record by record in every partition, with Kafka's own consumer; prints how many records are equal. */
final class TopicsEqual {
    public static void main(String[] arguments) {
        String bootstrap = arguments[0];
        long equal = 0;
        int partitions;
        try (Log log = new Log(bootstrap)) {
            List<PartitionInfo> all = log.consumer.partitionsFor(arguments[1]);
            partitions = all.size();
        }
        for (int partition = 0; partition < partitions; partition++) {
            try (Log one = new Log(bootstrap); Log other = new Log(bootstrap)) {
                one.begin(new TopicPartition(arguments[1], partition));
                other.begin(new TopicPartition(arguments[2], partition));
                while (one.hasNext() && other.hasNext()) {
                    ConsumerRecord<byte[], byte[]> a = one.next();
                    ConsumerRecord<byte[], byte[]> b = other.next();
                    if (!equal(a, b)) {
                        throw new IllegalStateException(a + " is not " + b);
                    }
                    equal++;
                }
                if (one.hasNext() || other.hasNext()) {
                    throw new IllegalStateException("partition " + partition + " has more records on one side");
                }
            }
        }
        System.out.println(equal);
    }

    private static boolean equal(ConsumerRecord<byte[], byte[]> a, ConsumerRecord<byte[], byte[]> b) {
        return Arrays.equals(a.key(), b.key())
            && Arrays.equals(a.value(), b.value())
            && a.timestamp() == b.timestamp()
            && Arrays.equals(a.headers().toArray(), b.headers().toArray());
    }

    /** The committed records of one partition up to the end that it had at the beginning. */
    private static final class Log implements Iterator<ConsumerRecord<byte[], byte[]>>, AutoCloseable {
        private final KafkaConsumer<byte[], byte[]> consumer;
        private TopicPartition partition;
        private long end;
        private Iterator<ConsumerRecord<byte[], byte[]>> fetched = List.<ConsumerRecord<byte[], byte[]>>of().iterator();

        Log(String bootstrap) {
            Properties settings = new Properties();
            settings.put("bootstrap.servers", bootstrap);
            settings.put("isolation.level", "read_committed");
            settings.put("check.crcs", "true");
            settings.put("max.poll.records", "10000");
            consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        }

        void begin(TopicPartition at) {
            partition = at;
            consumer.assign(List.of(at));
            consumer.seekToBeginning(List.of(at));
            end = consumer.endOffsets(List.of(at)).get(at);
        }

        @Override
        public boolean hasNext() {
            while (!fetched.hasNext()) {
                if (consumer.position(partition) >= end) {
                    return false;
                }
                fetched = consumer.poll(Duration.ofSeconds(1)).records(partition).iterator();
            }
            return true;
        }

        @Override
        public ConsumerRecord<byte[], byte[]> next() {
            if (!hasNext()) {
                throw new NoSuchElementException();
            }
            return fetched.next();
        }

        @Override
        public void close() {
            consumer.close();
        }
    }
}
