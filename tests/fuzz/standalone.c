/*
 * Runs a fuzzer without libFuzzer, first on the inputs of a file, then on mutations of them. The
 * file has one input a line, in hexadecimal digits.
 *
 *     fuzz_plan CORPUS MUTATIONS SEED
 *
 * Equal arguments give equal inputs. If an input ends the program, it is printed as such a line, so
 * that it can be added to the file.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_INPUTS = 1 << 14, LONGEST = 4096 };

static struct input {
    size_t size;
    uint8_t *data;
} inputs[MOST_INPUTS];
static size_t input_count;
static uint8_t current[LONGEST];
static size_t current_size;
static uint64_t state;

static size_t below(size_t n)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return n == 0 ? 0 : (size_t)(state >> 11) % n;
}

static void print_current(void)
{
    static const char digits[] = "0123456789abcdef";
    static char line[2 * LONGEST + 1];
    for (size_t i = 0; i < current_size; i++) {
        line[2 * i] = digits[current[i] >> 4];
        line[2 * i + 1] = digits[current[i] & 15];
    }
    line[2 * current_size] = '\n';
    if (write(STDERR_FILENO, line, 2 * current_size + 1) < 0) {
        _exit(3);
    }
}

static void on_signal(int number)
{
    print_current();
    _exit(128 + number);
}

static int completed; /* 1 if the program ends without a finding */

static void at_exit(void)
{
    if (!completed) {
        print_current();
    }
}

static int digit(int c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void read_corpus(const char *path)
{
    static char line[2 * LONGEST + 2];
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        perror(path);
        completed = 1;
        exit(2);
    }
    while (input_count < MOST_INPUTS && fgets(line, sizeof line, file) != NULL) {
        struct input *input = &inputs[input_count];
        input->data = malloc(LONGEST);
        for (input->size = 0;
             digit(line[2 * input->size]) >= 0 && digit(line[2 * input->size + 1]) >= 0;
             input->size++) {
            input->data[input->size] =
                (uint8_t)(digit(line[2 * input->size]) << 4 | digit(line[2 * input->size + 1]));
        }
        input_count += input->size > 0;
    }
    fclose(file);
}

static void set_current(const struct input *input)
{
    current_size = input->size;
    memcpy(current, input->data, input->size);
}

/* Makes one change: flips a bit, changes a byte, deletes or inserts bytes, or copies bytes of
 * another input. */
static void mutate(void)
{
    const size_t at = below(current_size), kind = below(6);
    if (kind == 0) {
        current[at] ^= (uint8_t)(1 << below(8));
    } else if (kind == 1) {
        current[at] = (uint8_t)below(256);
    } else if (kind == 2) {
        current[at] = (uint8_t)(current[at] + below(9) - 4);
    } else if (kind == 3 && current_size > 1) {
        const size_t gone =
            1 + below(current_size - at < 8 ? current_size - at : 8) % (current_size - at);
        memmove(current + at, current + at + gone, current_size - at - gone);
        current_size -= current_size > gone ? gone : 0;
    } else if (kind == 4 && current_size < LONGEST) {
        memmove(current + at + 1, current + at, current_size - at);
        current[at] = (uint8_t)below(256);
        current_size++;
    } else {
        const struct input *other = &inputs[below(input_count)];
        const size_t from = below(other->size),
                     room = other->size - from < LONGEST - at ? other->size - from : LONGEST - at,
                     n = below(room) + 1;
        memcpy(current + at, other->data + from, n);
        current_size = at + n > current_size ? at + n : current_size;
    }
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: %s CORPUS MUTATIONS SEED\n", argv[0]);
        return 2;
    }
    const size_t mutations = (size_t)strtoull(argv[2], NULL, 10);
    state = strtoull(argv[3], NULL, 10) * 2 + 88172645463325252u;
    atexit(at_exit);
    read_corpus(argv[1]);
    const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGABRT, SIGILL, SIGALRM};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        signal(signals[i], on_signal);
    }
    for (size_t i = 0; i < input_count; i++) {
        set_current(&inputs[i]);
        LLVMFuzzerTestOneInput(current, current_size);
    }
    for (size_t i = 0; i < mutations && input_count > 0; i++) {
        set_current(&inputs[below(input_count)]);
        for (size_t n = 1 + below(4); n > 0; n--) {
            mutate();
        }
        alarm(20); /* seconds; a call of these sizes takes a millisecond */
        LLVMFuzzerTestOneInput(current, current_size);
    }
    alarm(0);
    completed = 1;
    printf("ok: %zu inputs, %zu mutations\n", input_count, mutations);
    return 0;
}
