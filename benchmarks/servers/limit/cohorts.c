/* Cohorts: a client joins the cohort of its subscriptions, and leaves it when they change. */
#include <stdlib.h>

#include "limit.h"

static struct table cohorts;

static struct cohort *find_cohort(struct subscription **set, uint32_t count)
{
    struct cohort *cohort = find_or_add(&cohorts, set, count * sizeof *set, sizeof *cohort);
    if (cohort->subscriptions)
        return cohort;
    cohort->subscriptions = (struct subscription **)(void *)cohort->named.name;
    cohort->subscription_count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct subscription *subscription = set[i];
        if (subscription->count == subscription->capacity) {
            subscription->capacity = subscription->capacity ? 2 * subscription->capacity : 4;
            subscription->cohorts =
                resize(subscription->cohorts, subscription->capacity * sizeof *subscription->cohorts);
        }
        subscription->cohorts[subscription->count++] = cohort;
    }
    return cohort;
}

static void forget_cohort(struct cohort *cohort)
{
    for (uint32_t i = 0; i < cohort->subscription_count; i++) {
        struct subscription *subscription = cohort->subscriptions[i];
        uint32_t place = 0;
        while (subscription->cohorts[place] != cohort)
            place++;
        subscription->cohorts[place] = subscription->cohorts[--subscription->count];
    }
    take_out(&cohorts, &cohort->named);
    release(&cohort->batch);
    free(cohort->clients);
    free(cohort->named.name);
    free(cohort);
}

void leave_cohort(struct client *client)
{
    struct cohort *cohort = client->cohort;
    if (!cohort)
        return;
    client->cohort = NULL;
    struct client *last = cohort->clients[--cohort->count];
    cohort->clients[client->place] = last;
    last->place = client->place;
    cohort->deflating -= client->deflating;
    if (!cohort->count)
        forget_cohort(cohort);
}

/* Moves the client to the cohort of a sorted set. */
void join_cohort(struct client *client, struct subscription **set, uint32_t count)
{
    struct cohort *cohort = count ? find_cohort(set, count) : NULL;
    if (cohort == client->cohort)
        return;
    leave_cohort(client);
    if (!cohort)
        return;
    if (cohort->count == cohort->capacity) {
        cohort->capacity = cohort->capacity ? 2 * cohort->capacity : 1;
        cohort->clients = resize(cohort->clients, cohort->capacity * sizeof *cohort->clients);
    }
    client->cohort = cohort;
    client->place = cohort->count;
    cohort->clients[cohort->count++] = client;
    cohort->deflating += client->deflating;
}
