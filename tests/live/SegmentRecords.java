import java.io.File;
import java.util.Base64;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.record.internal.FileRecords;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.RecordBatch;
import org.apache.kafka.common.utils.Utils;

/** Prints the records of log files as brokers read them: offset, timestamp, its kind, key, value and headers, contents in base64. */
final class SegmentRecords {
    public static void main(String[] files) throws Exception {
        for (String file : files) {
            try (FileRecords records = FileRecords.open(new File(file), false)) {
                for (RecordBatch batch : records.batches()) {
                    batch.ensureValid();
                    for (Record record : batch) {
                        record.ensureValid();
                        print(batch, record);
                    }
                }
            }
        }
    }

    private static void print(RecordBatch batch, Record record) {
        StringBuilder line = new StringBuilder();
        line.append(record.offset()).append(' ').append(record.timestamp()).append(' ').append(batch.timestampType());
        line.append(' ').append(text(record.hasKey() ? Utils.toArray(record.key()) : null));
        line.append(' ').append(text(record.hasValue() ? Utils.toArray(record.value()) : null));
        for (Header header : record.headers()) {
            line.append(' ').append(header.key()).append('=').append(text(header.value()));
        }
        System.out.println(line);
    }

    /** Null is a hyphen, which base64 does not have; what is empty is between quotes. */
    private static String text(byte[] bytes) {
        return bytes == null ? "-" : '"' + Base64.getEncoder().encodeToString(bytes) + '"';
    }
}
