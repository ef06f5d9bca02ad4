/* A pendulum whose force is a network, without Python: the simulation of ../jitted_simulation.py in C.

   python ../jitted_simulation.py --export pendulum.so
   cc -O2 -o pendulum pendulum.c ./pendulum.so -lm && ./pendulum 1.0 5000
*/
#include <stdio.h>
#include <stdlib.h>
#include "pendulum.h"

#define DT 1e-3

int main(int count, char **words) {
    double angle = count > 1 ? atof(words[1]) : 1.0, speed = 0.0;
    long steps = count > 2 ? atol(words[2]) : 5000;
    double x[PENDULUM_INPUTS], acceleration[PENDULUM_OUTPUTS];
    for (long i = 0; i < steps; i++) {
        x[0] = angle;
        x[1] = speed;
        if (pendulum_predict(x, acceleration, NULL)) return 1;
        speed += DT * acceleration[0];
        angle += DT * speed;
    }
    printf("%.17g\n", angle);
    return 0;
}
