/* A Modbus client of Debian's libmodbus, so that our simulated units meet a client that shares no code with ours or with pymodbus.

   libmodbus_client tcp HOST PORT UNIT
   libmodbus_client rtu PATH UNIT

   One question a line on standard input, one line of answer on standard output: the words read, "ok", or "error: TEXT".

   read TABLE ADDRESS COUNT            function codes 1 to 4
   coil ADDRESS BIT                    5
   register ADDRESS WORD               6
   coils ADDRESS BIT ...               15
   registers ADDRESS WORD ...          16
   mask ADDRESS AND OR                 22
   both READ_ADDRESS COUNT ADDRESS WORD ...   23 */

#include <errno.h>
#include <modbus/modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 2000

static uint16_t words[MOST];
static uint8_t bits[MOST];

static void tell(int done, int is_bits, int count)
{
    if (done < 0) {
        printf("error: %s\n", modbus_strerror(errno));
    } else if (count == 0) {
        printf("ok\n");
    } else {
        for (int i = 0; i < count; i++)
            printf("%s%d", i ? " " : "", is_bits ? bits[i] : words[i]);
        printf("\n");
    }
    fflush(stdout);
}

static void ask_read(modbus_t *ctx, char **part)
{
    int address = atoi(part[2]), count = atoi(part[3]);

    if (strcmp(part[1], "coil") == 0)
        tell(modbus_read_bits(ctx, address, count, bits), 1, count);
    else if (strcmp(part[1], "discrete") == 0)
        tell(modbus_read_input_bits(ctx, address, count, bits), 1, count);
    else if (strcmp(part[1], "holding") == 0)
        tell(modbus_read_registers(ctx, address, count, words), 0, count);
    else
        tell(modbus_read_input_registers(ctx, address, count, words), 0, count);
}

static void ask(modbus_t *ctx, char **part, int parts)
{
    int address = atoi(part[1]);
    int first = strcmp(part[0], "both") == 0 ? 4 : 2;
    uint16_t given[MOST];

    for (int i = first; i < parts; i++) {
        given[i - first] = (uint16_t)atoi(part[i]);
        bits[i - first] = (uint8_t)atoi(part[i]);
    }
    if (strcmp(part[0], "read") == 0)
        ask_read(ctx, part);
    else if (strcmp(part[0], "coil") == 0)
        tell(modbus_write_bit(ctx, address, given[0]), 0, 0);
    else if (strcmp(part[0], "register") == 0)
        tell(modbus_write_register(ctx, address, given[0]), 0, 0);
    else if (strcmp(part[0], "coils") == 0)
        tell(modbus_write_bits(ctx, address, parts - first, bits), 0, 0);
    else if (strcmp(part[0], "registers") == 0)
        tell(modbus_write_registers(ctx, address, parts - first, given), 0, 0);
    else if (strcmp(part[0], "mask") == 0)
        tell(modbus_mask_write_register(ctx, address, given[0], given[1]), 0, 0);
    else
        tell(modbus_write_and_read_registers(ctx, atoi(part[3]), parts - first, given, address, atoi(part[2]), words), 0, atoi(part[2]));
}

int main(int argc, char **argv)
{
    char line[4096], *part[256];
    modbus_t *ctx = NULL;

    if (argc == 5 && strcmp(argv[1], "tcp") == 0)
        ctx = modbus_new_tcp(argv[2], atoi(argv[3]));
    else if (argc == 4 && strcmp(argv[1], "rtu") == 0)
        ctx = modbus_new_rtu(argv[2], 19200, 'N', 8, 1);
    if (!ctx || modbus_set_slave(ctx, atoi(argv[argc - 1])) < 0 || modbus_connect(ctx) < 0) {
        fprintf(stderr, "%s\n", modbus_strerror(errno));
        return 1;
    }
    while (fgets(line, sizeof line, stdin)) {
        int parts = 0;
        for (char *next = strtok(line, " \n"); next && parts < 256; next = strtok(NULL, " \n"))
            part[parts++] = next;
        if (parts > 2)
            ask(ctx, part, parts);
    }
    modbus_close(ctx);
    modbus_free(ctx);
    return 0;
}
