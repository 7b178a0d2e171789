/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lpr-looks.c - one look through a queue at a time.
 *
 * Commands 03 to 05 need no proof, and a long queue takes long to be looked through. So all of them
 * together keep one worker busy, and the others are left for what has to be done: the next look is handed
 * to a worker when the one before has ended, on the loop of its own connection.
 */
#include "lpr.h"

#include <imprimatur/loop.h>

#define LOOKS_WAITING_MAX 64u

static void look_hand_over(void *arg);

/* Gives the turn to the one that waits longest. */
static void turn_pass(struct lpr_looks *looks)
{
    pthread_mutex_lock(&looks->lock);
    struct lpr_look *next = looks->first;
    looks->is_taken = next != NULL;
    if (next != NULL) {
        looks->first = next->next;
        looks->waiting--;
    }
    pthread_mutex_unlock(&looks->lock);
    /* A loop that takes no calls is ending, and so are its connections. */
    if (next != NULL && imp_post(looks->self, next->loop, look_hand_over, next) != IMP_OK) {
        turn_pass(looks);
        next->done(next->arg, true);
    }
}

static void look_run(void *arg)
{
    struct lpr_look *look = arg;
    look->run(look->arg);
}

/* The turn first: with `done` the module may be gone. */
static void look_done(void *arg, bool was_cancelled)
{
    struct lpr_look *look = arg;
    turn_pass(look->looks);
    look->done(look->arg, was_cancelled);
}

static void look_hand_over(void *arg)
{
    struct lpr_look *look = arg;
    if (look->is_forgotten || imp_work(look->looks->self, look_run, look_done, look) == NULL)
        look_done(look, true);
}

bool lpr_look_begin(struct lpr_looks *looks, struct lpr_look *look, void (*run)(void *arg),
                    void (*done)(void *arg, bool was_cancelled), void *arg)
{
    *look = (struct lpr_look){
        .looks = looks, .run = run, .done = done, .arg = arg, .loop = imp_loop_current()};
    pthread_mutex_lock(&looks->lock);
    bool is_first = !looks->is_taken, is_waiting = false;
    if (is_first) {
        looks->is_taken = true;
    } else if (looks->waiting < LOOKS_WAITING_MAX) {
        struct lpr_look **link = &looks->first;
        while (*link != NULL)
            link = &(*link)->next;
        *link = look;
        looks->waiting++;
        is_waiting = true;
    }
    pthread_mutex_unlock(&looks->lock);
    if (!is_first)
        return is_waiting;
    if (imp_work(looks->self, look_run, look_done, look) != NULL)
        return true;
    turn_pass(looks);
    return false;
}

void lpr_look_forget(struct lpr_look *look)
{
    look->is_forgotten = true;
}

void lpr_looks_init(struct lpr_looks *looks, imp_self *self)
{
    *looks = (struct lpr_looks){.self = self};
    pthread_mutex_init(&looks->lock, NULL);
}

void lpr_looks_clear(struct lpr_looks *looks)
{
    pthread_mutex_destroy(&looks->lock);
}
