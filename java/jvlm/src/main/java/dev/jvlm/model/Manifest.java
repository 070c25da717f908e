package dev.jvlm.model;

import dev.jvlm.error.JvlmException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * Where the bytes of every weight lie: what native code gets as {@code manifest} ({@code native/model/weights.h}).
 *
 * @param updates what an adapter adds to some of the pieces
 */
public record Manifest(List<Piece> pieces, List<Update> updates) {

    /** The dtypes that native code reads. */
    static final Set<String> DTYPES = Set.of("BF16", "F16", "F32");

    private static final int MOST_NAMED = 10;

    /**
     * One line: {@code rows * columns} numbers of {@code dtype} (BF16, F16, F32) from byte {@code offset} of {@code file}, for the rows
     * of {@code target} from {@code firstRow} on. A file {@code seed:N} stands for pseudo-random weights.
     */
    public record Piece(String target, long firstRow, long rows, long columns, String dtype, String file, long offset) {
        /** Bytes in the file. */
        public long bytes() {
            return rows * columns * size(dtype);
        }

        private static int size(String dtype) {
            return dtype.equals("F32") ? 4 : 2;
        }
    }

    /** Numbers of {@code dtype} from byte {@code offset} of a file on. */
    public record Numbers(String dtype, long offset) {}

    /**
     * What an adapter makes of the rows W of {@code target} that begin with {@code firstRow}, which are one piece: V = W + scale * B * A,
     * and with magnitudes m row o of it times m[o] / ||V[o]||.
     *
     * @param file where the three lie
     * @param a (rank, columns)
     * @param b (rows, rank)
     * @param magnitude (rows), or null
     */
    public record Update(String target, long firstRow, int rank, double scale, String file, Numbers a, Numbers b, Numbers magnitude) {}

    public Manifest {
        pieces = List.copyOf(pieces);
        updates = List.copyOf(updates);
    }

    /** A manifest without an adapter. */
    public Manifest(List<Piece> pieces) {
        this(pieces, List.of());
    }

    /** Seeded pseudo-random weights of the size that trained ones would have, for benchmarks without a checkpoint. */
    public static Manifest seeded(List<Weight> weights, int seed) {
        return new Manifest(weights.stream()
                .map(w -> new Piece(w.target(), w.firstRow(), w.rows(), w.columns(), "BF16", "seed:" + seed, 0))
                .toList());
    }

    /**
     * The weights of a checkpoint, found where its files hold them.
     *
     * @param adapter what is merged into them, or null
     * @param notes gets a sentence that names the tensors which nobody asked for
     * @throws JvlmException MODEL_FORMAT naming every tensor that is missing or has another shape than the config says (at most ten)
     */
    static Manifest of(List<Weight> weights, SafeTensors tensors, Adapter adapter, List<String> notes) {
        List<Piece> pieces = new ArrayList<>();
        Set<String> unused = new TreeSet<>();
        tensors.tensors().forEach(t -> unused.add(t.name()));
        Set<String> problems = new LinkedHashSet<>(); // A tensor that several weights share is named once.
        for (Weight weight : weights) {
            SafeTensors.Tensor tensor = tensors.get(weight.name());
            unused.remove(weight.name());
            if (tensor == null) {
                problems.add(weight.name() + " is missing");
            } else if (!tensor.shape().equals(weight.shape())) {
                problems.add(weight.name() + " has the shape " + tensor.shape() + " instead of " + weight.shape());
            } else if (!DTYPES.contains(tensor.dtype())) {
                problems.add(weight.name() + " has the dtype " + tensor.dtype() + " instead of BF16, F16 or F32");
            } else {
                long before = weight.sourceRow() * weight.columns() * Piece.size(tensor.dtype());
                pieces.add(new Piece(weight.target(), weight.firstRow(), weight.rows(), weight.columns(), tensor.dtype(),
                        tensor.file().toString(), tensor.offset() + before));
            }
        }
        if (!problems.isEmpty()) {
            String named = String.join("; ", problems.stream().limit(MOST_NAMED).toList());
            String more = problems.size() > MOST_NAMED ? "; and " + (problems.size() - MOST_NAMED) + " more" : "";
            throw new JvlmException(
                    JvlmException.Code.MODEL_FORMAT,
                    "The weights do not fit config.json: " + named + more + ". Take both from the same model");
        }
        if (!unused.isEmpty()) {
            notes.add("Tensors of the checkpoint that the model does not use: " + Config.list(List.copyOf(unused)));
        }
        List<Update> updates = adapter == null ? List.of() : weights.stream().map(adapter::update).filter(Objects::nonNull).toList();
        return new Manifest(pieces, updates);
    }

    /** Bytes of the pieces in their files; an adapter's are few and not counted. */
    public long bytes() {
        return pieces.stream().mapToLong(Piece::bytes).sum();
    }

    /** The text that native code parses. */
    public String toText() {
        StringBuilder text = new StringBuilder();
        pieces.forEach(p -> line(text, p.target, p.firstRow, p.rows, p.columns, p.dtype, lineSafe(p.file), p.offset));
        for (Update u : updates) {
            List<Object> fields = new ArrayList<>(List.of("adapter", u.target, u.firstRow, u.rank, u.scale, lineSafe(u.file)));
            Stream.of(u.a, u.b, u.magnitude).filter(Objects::nonNull).forEach(n -> fields.addAll(List.of(n.dtype, n.offset)));
            line(text, fields.toArray());
        }
        return text.toString();
    }

    private static void line(StringBuilder text, Object... fields) {
        text.append(Arrays.stream(fields).map(String::valueOf).collect(Collectors.joining("\t"))).append('\n');
    }

    private static String lineSafe(String file) {
        if (file.indexOf('\t') >= 0 || file.indexOf('\n') >= 0) {
            throw new JvlmException(
                    JvlmException.Code.MODEL_FORMAT, "The path of the model or of the adapter holds a tab or a line break; rename the folder");
        }
        return file;
    }
}
