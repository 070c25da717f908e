package dev.jvlm.model;

import dev.jvlm.error.JvlmException;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;

/** Where the bytes of every weight lie: what native code gets as {@code manifest} ({@code native/model/weights.h}). */
public record Manifest(List<Piece> pieces) {

    /** The dtypes that native code reads. */
    private static final Set<String> DTYPES = Set.of("BF16", "F16", "F32");

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

    public Manifest {
        pieces = List.copyOf(pieces);
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
     * @param notes gets a sentence that names the tensors which nobody asked for
     * @throws JvlmException MODEL_FORMAT naming every tensor that is missing or has another shape than the config says (at most ten)
     */
    static Manifest of(List<Weight> weights, SafeTensors tensors, List<String> notes) {
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
        return new Manifest(pieces);
    }

    /** Bytes to be read from files. */
    public long bytes() {
        return pieces.stream().mapToLong(Piece::bytes).sum();
    }

    /** The text that native code parses. */
    public String toText() {
        return pieces.stream()
                .map(p -> p.target + '\t' + p.firstRow + '\t' + p.rows + '\t' + p.columns + '\t' + p.dtype + '\t'
                        + lineSafe(p.file) + '\t' + p.offset + '\n')
                .collect(Collectors.joining());
    }

    private static String lineSafe(String file) {
        if (file.indexOf('\t') >= 0 || file.indexOf('\n') >= 0) {
            throw new JvlmException(
                    JvlmException.Code.MODEL_FORMAT, "The path of the model folder holds a tab or a line break; rename the folder");
        }
        return file;
    }
}
