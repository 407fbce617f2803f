/* Linked into VARIANT=unfenced in place of what they are named after (ld's --wrap): every
 * token counts as the present one, and nobody has to hold the key he writes under, nor to
 * have seen what he writes over: the head of the audit log alone would keep out whoever
 * slept while others wrote. For the proof that tests of fencing can fail. */
#include "common/etcd/etcd.h"
#include "common/model/token.h"

enum token_order __wrap_token_compare(const struct token *a, const struct token *b);
void __real_etcd_if(struct etcd_txn *t, const char *key, enum etcd_target target,
                    enum etcd_relation relation, int64_t number);
void __wrap_etcd_if(struct etcd_txn *t, const char *key, enum etcd_target target,
                    enum etcd_relation relation, int64_t number);

enum token_order __wrap_token_compare(const struct token *a, const struct token *b)
{
    (void)a, (void)b;
    return TOKEN_SAME;
}

void __wrap_etcd_if(struct etcd_txn *t, const char *key, enum etcd_target target,
                    enum etcd_relation relation, int64_t number)
{
    if (number == 0)
        __real_etcd_if(t, key, target, relation, number);
}
