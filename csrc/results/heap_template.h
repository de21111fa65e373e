/*
 * A binary heap with the worst item at its root. A source file defines these names before it
 * includes this one: HEAP and HEAP_ITEM, two types; heap_item(heap, at) and heap_put(heap, at,
 * item), which read and write an item; heap_precedes(a, b), true if item a is better than b.
 */

/* Inserts an item at the free position `at` of a heap of `size` items, or below it: worse items on
 * the way move up. */
static void heap_sift_down(const HEAP *heap, size_t at, size_t size, HEAP_ITEM item)
{
    for (size_t child; (child = 2 * at + 1) < size; at = child) {
        child +=
            child + 1 < size && heap_precedes(heap_item(heap, child), heap_item(heap, child + 1));
        if (!heap_precedes(item, heap_item(heap, child))) {
            break;
        }
        heap_put(heap, at, heap_item(heap, child));
    }
    heap_put(heap, at, item);
}

#undef HEAP
#undef HEAP_ITEM
