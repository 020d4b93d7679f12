/* A test program prints what it finds, so that two runs can be compared. */
#ifndef CHECK_H
#define CHECK_H
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Prints an expression and its value. */
#define SHOW(expression) printf("%s = %ld\n", #expression, (long)(expression))
/* Prints an expression, its value and what errno says if it is -1. */
#define TRY(expression)                                                                    \
    do {                                                                                   \
        errno = 0;                                                                         \
        long result_ = (long)(expression);                                                 \
        printf("%s = %ld%s%s\n", #expression, result_, result_ == -1 ? " " : "",           \
               result_ == -1 ? strerrorname_np(errno) : "");                               \
    } while (0)
/* Ends the program unless what is needed for the rest worked. */
#define NEED(condition)                                                                    \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            printf("line %d: %s: %s\n", __LINE__, #condition, strerror(errno));            \
            exit(99);                                                                      \
        }                                                                                  \
    } while (0)
#endif
