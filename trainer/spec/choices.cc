#include "trainer/spec/choices.h"

namespace plumb::spec {

template const char* Name(BlockForm);
template const char* Name(NormKind);
template const char* Name(NormPlace);
template const char* Name(OuterNorm);
template const char* Name(NormScaling);
template const char* Name(ParallelNorms);
template const char* Name(BranchScale);
template const char* Name(AttentionMatrix);
template const char* Name(GainScope);
template const char* Name(ValueProjection);
template const char* Name(ValueInit);
template const char* Name(FirstValue);
template const char* Name(QueryInit);
template const char* Name(QkvForm);
template const char* Name(AttentionBias);
template const char* Name(OnOff);
template const char* Name(QkvActivation);
template const char* Name(ScoreBias);
template const char* Name(ZeroOrNormal);
template const char* Name(QkNorm);
template const char* Name(WindowPattern);
template const char* Name(PositionKind);
template const char* Name(RopeStyle);
template const char* Name(MlpKind);
template const char* Name(ResidualInit);
template const char* Name(ValueResidual);
template const char* Name(Parametrization);
template const char* Name(RouterGate);
template const char* Name(RouterPool);
template const char* Name(RouterInit);
template const char* Name(BalanceScope);
template const char* Name(Objective);
template const char* Name(OptimizerKind);
template const char* Name(ScheduleKind);
template const char* Name(DeviceKind);

}  // namespace plumb::spec
