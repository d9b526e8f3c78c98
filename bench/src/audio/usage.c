/* Runs a command and writes how many microseconds of processor time it used, with all that it started and waited for.
 * As small as this, so that it adds nothing of its own.
 *
 *   usage FIGURE COMMAND... */

#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int count, char **arguments) {
    if (count < 3) return 2;
    pid_t child = fork();
    if (child < 0) return 1;
    if (child == 0) {
        execvp(arguments[2], arguments + 2);
        _exit(127);
    }
    int status;
    struct rusage used;
    if (wait4(child, &status, 0, &used) != child) return 1;
    FILE *figure = fopen(arguments[1], "w");
    if (!figure) return 1;
    long long micros = (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000LL;
    micros += used.ru_utime.tv_usec + used.ru_stime.tv_usec;
    fprintf(figure, "%lld\n", micros);
    fclose(figure);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
