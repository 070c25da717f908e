package dev.jvlm.engine;

/** Which pages of the cache are free. */
final class PagePool {
    private final int[] free;
    private int count;

    PagePool(int pages) {
        free = new int[pages];
        for (int i = 0; i < pages; i++) {
            free[i] = pages - 1 - i;
        }
        count = pages;
    }

    int available() {
        return count;
    }

    /** Takes {@code n} pages, or returns null and takes none. */
    int[] take(int n) {
        if (n > count) {
            return null;
        }
        int[] pages = new int[n];
        for (int i = 0; i < n; i++) {
            pages[i] = free[--count];
        }
        return pages;
    }

    void give(int[] pages) {
        if (count + pages.length > free.length) {
            throw new IllegalStateException("More pages given back than taken");
        }
        for (int page : pages) {
            free[count++] = page;
        }
    }
}
