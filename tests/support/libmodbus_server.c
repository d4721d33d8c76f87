/* A Modbus server of Debian's libmodbus, so that our driver meets a server that shares no code with ours or with pymodbus.

   libmodbus_server tcp            listens on a free port of 127.0.0.1 and prints it
   libmodbus_server rtu PATH UNIT  answers on a serial port as one unit, and prints 0

   Standard input, before it starts: "TABLE ADDRESS WORD" a line, TABLE being coil, discrete, holding or input; then "go".
   Afterwards it serves one client after another until it is killed, and prints each word that a client wrote:
   "wrote TABLE ADDRESS WORD". */

#include <arpa/inet.h>
#include <errno.h>
#include <modbus/modbus.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#define WORDS 4096

static modbus_mapping_t *mapping;
static uint8_t coils_before[WORDS];
static uint16_t registers_before[WORDS];

static void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, modbus_strerror(errno));
    exit(1);
}

static void load(void)
{
    char line[128], table[16];
    unsigned address, word;

    while (fgets(line, sizeof line, stdin) && strcmp(line, "go\n") != 0) {
        if (sscanf(line, "%15s %u %u", table, &address, &word) != 3 || address >= WORDS) {
            fprintf(stderr, "not understood: %s", line);
            exit(2);
        }
        if (strcmp(table, "coil") == 0)
            mapping->tab_bits[address] = (uint8_t)word;
        else if (strcmp(table, "discrete") == 0)
            mapping->tab_input_bits[address] = (uint8_t)word;
        else if (strcmp(table, "holding") == 0)
            mapping->tab_registers[address] = (uint16_t)word;
        else
            mapping->tab_input_registers[address] = (uint16_t)word;
    }
    memcpy(coils_before, mapping->tab_bits, sizeof coils_before);
    memcpy(registers_before, mapping->tab_registers, sizeof registers_before);
}

static void tell_writes(void)
{
    for (int i = 0; i < WORDS; i++) {
        if (coils_before[i] != mapping->tab_bits[i])
            printf("wrote coil %d %d\n", i, coils_before[i] = mapping->tab_bits[i]);
        if (registers_before[i] != mapping->tab_registers[i])
            printf("wrote holding %d %d\n", i, registers_before[i] = mapping->tab_registers[i]);
    }
    fflush(stdout);
}

/* Answer one request; -1 when the client has gone. */
static int answer(modbus_t *ctx, int is_serial)
{
    uint8_t request[MODBUS_TCP_MAX_ADU_LENGTH];
    int length = modbus_receive(ctx, request);

    if (length > 0 && modbus_reply(ctx, request, length, mapping) >= 0)
        tell_writes();
    return length < 0 && !is_serial ? -1 : 0;
}

static void serve_tcp(void)
{
    modbus_t *ctx = modbus_new_tcp("127.0.0.1", 0);
    struct sockaddr_in at;
    socklen_t size = sizeof at;
    int listener = ctx ? modbus_tcp_listen(ctx, 8) : -1;
    fd_set open_ones, ready;

    if (listener < 0 || getsockname(listener, (struct sockaddr *)&at, &size) < 0)
        fail("listen");
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    FD_ZERO(&open_ones);
    FD_SET(listener, &open_ones);
    for (;;) {
        ready = open_ones;
        if (select(FD_SETSIZE, &ready, NULL, NULL, NULL) < 0)
            fail("select");
        for (int fd = 0; fd < FD_SETSIZE; fd++) {
            if (!FD_ISSET(fd, &ready))
                continue;
            if (fd == listener) {
                int client = accept(listener, NULL, NULL);
                if (client >= 0)
                    FD_SET(client, &open_ones);
                continue;
            }
            modbus_set_socket(ctx, fd);
            if (answer(ctx, 0) < 0) {
                close(fd);
                FD_CLR(fd, &open_ones);
            }
        }
    }
}

static void serve_rtu(const char *path, int unit)
{
    modbus_t *ctx = modbus_new_rtu(path, 19200, 'N', 8, 1);

    if (!ctx || modbus_set_slave(ctx, unit) < 0 || modbus_connect(ctx) < 0)
        fail(path);
    printf("0\n");
    fflush(stdout);
    for (;;)
        answer(ctx, 1);
}

int main(int argc, char **argv)
{
    mapping = modbus_mapping_new(WORDS, WORDS, WORDS, WORDS);
    if (!mapping)
        fail("mapping");
    load();
    if (argc == 2 && strcmp(argv[1], "tcp") == 0)
        serve_tcp();
    if (argc == 4 && strcmp(argv[1], "rtu") == 0)
        serve_rtu(argv[2], atoi(argv[3]));
    fprintf(stderr, "usage: libmodbus_server tcp | rtu PATH UNIT\n");
    return 2;
}
