package dev.jvlm.cli;

import java.util.function.BiConsumer;
import me.tongfei.progressbar.ConsoleProgressBarConsumer;
import me.tongfei.progressbar.ProgressBar;
import me.tongfei.progressbar.ProgressBarBuilder;
import me.tongfei.progressbar.ProgressBarStyle;

/** How far loading is, on a terminal; nothing if it is quick. */
final class LoadingBar implements BiConsumer<Long, Long>, AutoCloseable {
    private static final long QUICK_NANOS = 400_000_000;

    private final String name;
    private final long start = System.nanoTime();
    private final boolean watched = Console.watched();
    private ProgressBar bar;

    LoadingBar(String name) {
        this.name = name;
    }

    @Override
    public void accept(Long done, Long all) {
        if (!watched || System.nanoTime() - start < QUICK_NANOS) {
            return;
        }
        if (bar == null) {
            bar = new ProgressBarBuilder()
                    .setTaskName("loading " + name)
                    .setInitialMax(all)
                    .setUnit(" MiB", 1 << 20)
                    .setStyle(ProgressBarStyle.ASCII)
                    .setUpdateIntervalMillis(100)
                    .setConsumer(new ConsoleProgressBarConsumer(System.err))
                    .clearDisplayOnFinish()
                    .build();
        }
        bar.stepTo(done);
    }

    @Override
    public void close() {
        if (bar != null) {
            bar.close();
        }
    }
}
